"""Pure decisions: no trio, no clock, no global random generator, no logging."""
