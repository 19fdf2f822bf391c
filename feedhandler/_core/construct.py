"""Making many events fast.

The `__init__` that attrs generates for a frozen class sets each field through
`object.__setattr__`, which for nine fields takes longer than decoding them. A twin, of the same
fields and the same layout but not frozen, is made in a third of the time; it becomes an event by
the change of its class, before anyone else sees it. Where even the call of its `__init__` counts,
it is made by `object.__new__` and given all its fields one by one.
"""

from __future__ import annotations

from typing import Any

import attrs

__all__ = ["twin_of"]


def twin_of(cls: type) -> Any:
    """A class whose instances can be made `cls` by ``instance.__class__ = cls``.

    `cls` is a frozen attrs class with slots and without `__weakref__`, converters, validators and
    a post-init. The twin takes all fields, by position. Raises `TypeError` for any other class.
    """
    fields = attrs.fields(cls)
    twin = attrs.make_class(
        f"_{cls.__name__}Twin",
        [field.name for field in fields],
        slots=True,
        weakref_slot=False,
        eq=False,
        repr=False,
    )
    checked = any(field.converter or field.validator for field in fields)
    if checked or hasattr(cls, "__attrs_post_init__"):
        raise TypeError(f"{cls.__name__} does more than to keep its fields")
    twin(*fields).__class__ = cls  # raises TypeError where the layouts differ
    return twin
