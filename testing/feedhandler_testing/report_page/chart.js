"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const chart = $("chart"), frame = $("frame"), drawing = $("drawing"), tip = $("tip");
  const END = data.end, LEAST = Math.max(END * 1e-8, 1e-4);
  const view = { from: 0, to: END };
  const GUTTER_FROM = 700; // px: below it, the names of the lanes stand above them
  let items = [], chosen = null, place = {}, queued = false;

  // --- words ---

  const UNITS = [1, 2, 5];
  const STEPS = [...[-5, -4, -3, -2, -1].flatMap((e) => UNITS.map((u) => Number(`${u}e${e}`))), 1, 2, 5, 10, 15, 30, 60,
    120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200];
  const stepFor = (least) => STEPS.find((s) => s >= least) || Math.ceil(least / 86400) * 86400;
  const places = (step) => (step >= 1 ? 0 : Math.min(6, Math.ceil(-Math.log10(step) - 1e-9)));
  const pad = (value, digits, width) => value.toFixed(digits).padStart(digits ? width + digits + 1 : width, "0");

  function clock(at, digits) {
    const scale = 10 ** digits, ticks = Math.round(Math.abs(at) * scale);
    const sign = at < 0 && ticks ? "−" : "";
    const seconds = ticks / scale, h = Math.floor(seconds / 3600), m = Math.floor((seconds % 3600) / 60);
    if (END < 120) return `${sign}${seconds.toFixed(digits)} s`;
    const rest = pad(Math.round(seconds * scale - (h * 3600 + m * 60) * scale) / scale, digits, 2);
    return END < 3600 ? `${sign}${h * 60 + m}:${rest}` : `${sign}${h}:${pad(m, 0, 2)}:${rest}`;
  }
  const exact = (at) => (END < 120 ? `${at.toFixed(3)} s` : `${clock(at, 3)} (${at.toFixed(3)} s)`);
  const lasting = (s) => (s >= 120 ? clock(s, 0) : `${Number(s.toPrecision(4))} s`);
  const count = (n) => n.toLocaleString("en");

  // --- drawing by hand ---

  function make(name, attributes, parent, text) {
    const element = document.createElementNS(chart.namespaceURI, name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    if (parent) parent.appendChild(element);
    return element;
  }
  const widths = new Map();
  const pen = document.createElement("canvas").getContext("2d");
  function widthOf(text) {
    if (!widths.has(text)) {
      if (widths.size > 5000) widths.clear();
      pen.font = "11px system-ui, sans-serif";
      widths.set(text, pen.measureText(text).width);
    }
    return widths.get(text);
  }
  function fitting(text, room) {
    if (widthOf(text) <= room) return text;
    let most = Math.floor((text.length * room) / widthOf(text));
    while (most > 3 && widthOf(`${text.slice(0, most)}…`) > room) most -= 1;
    return most > 3 ? `${text.slice(0, most)}…` : "";
  }
  const SHAPES = {
    fired: (g, x, y) => make("path", { class: "m-fired", d: `M${x - 5} ${y - 5}h10l-5 9z` }, g),
    gap: (g, x, y) => make("path", { class: "m-gap", d: `M${x} ${y - 7}l6 7l-6 7l-6 -7z` }, g),
    error: (g, x, y) => make("path", { class: "m-error", d: `M${x - 5} ${y - 5}l10 10m0 -10l-10 10` }, g),
    violation: (g, x, y) => {
      make("path", { class: "m-violation", d: `M${x - 3.5} ${y - 8}h7l5 5v7l-5 5h-7l-5 -5v-7z` }, g);
      make("path", { class: "m-bang", d: `M${x} ${y - 5}v6m0 2v2` }, g);
    },
  };

  // --- lanes ---

  const FAULT_ROW = 27; // px: its name above, its acts below
  const lanes = [
    { name: "Steps", kind: "spans", of: data.steps, high: 20 },
    { name: "Connection", kind: "spans", of: data.states, high: 24, label: (s) => s[2].split(" ").pop() },
    { name: "Circuit breaker", kind: "spans", of: data.breaker, high: 18, none: "closed throughout", label: (s) => (s[2] === "open" ? `open ${lasting(s[1] - s[0])}` : "") },
    { name: "Back-off waits", kind: "spans", of: data.waits, high: 18, none: "none", label: (s) => (s[2] === "wait" ? lasting(s[1] - s[0]) : "") },
    ...data.faults.map((f) => ({ name: `Fault: ${f.kind}`, kind: "fault", of: f.spans, marks: f.marks, ...stacked(f.spans) })),
    { name: "Messages", kind: "bars", high: 96 },
    { name: "Gaps announced", kind: "marks", of: data.gaps, shape: "gap", high: 22, none: "none" },
    { name: "Errors", kind: "marks", of: data.errors, shape: "error", high: 22, none: "none" },
    { name: "Violations", kind: "marks", of: data.violations, shape: "violation", high: 26, none: "none: all rules were kept" },
  ];

  function stacked(spans) {
    const ends = [];
    const rows = spans.map((span) => {
      let row = ends.findIndex((end) => end <= span[0]);
      if (row < 0) row = Math.min(ends.length, 4);
      ends[row] = Math.max(span[1], ends[row] || 0);
      return row;
    });
    const rowOf = new Map(spans.map((span, index) => [span[3], rows[index]]));
    return { rows, rowOf, high: FAULT_ROW * Math.max(ends.length, 1) };
  }

  // Sorted by time: the first index that is not before `at`.
  function firstFrom(list, at, key) {
    let low = 0, high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle][key] < at) low = middle + 1; else high = middle;
    }
    return low;
  }

  function draw() {
    queued = false;
    const width = frame.clientWidth, gutter = width >= GUTTER_FROM ? 168 : 0;
    const left = gutter || 8, right = width - 13, scale = (right - left) / (view.to - view.from);
    const X = (at) => left + (at - view.from) * scale;
    place = { left, right, scale, width };
    items = [];
    const page = document.createDocumentFragment();
    const plot = make("g", { "clip-path": "url(#plot)" });
    let y = 26;
    for (const lane of lanes) {
      lane.y = y + (gutter ? 5 : 19);
      y = lane.y + lane.high + 5;
    }
    ticks(page, X, left, right, y);
    for (const lane of lanes) {
      if (gutter) make("text", { x: 10, y: lane.y + Math.min(lane.high, 24) / 2 + 4, class: "name" }, page, fitting(lane.name, gutter - 22));
      else make("text", { x: left, y: lane.y - 5, class: "name inside" }, page, lane.name);
      make("line", { x1: 0, x2: width, y1: lane.y + lane.high + 5, y2: lane.y + lane.high + 5, class: "grid" }, page);
      const g = make("g", {}, plot);
      if (lane.none && !lane.of.length) make("text", { x: left + 4, y: lane.y + lane.high / 2 + 4, class: "soft" }, g, lane.none);
      else if (lane.kind === "spans") spans(g, lane, X);
      else if (lane.kind === "fault") { spans(g, lane, X); marks(g, lane, X, lane.marks, "fired"); }
      else if (lane.kind === "marks") marks(g, lane, X, lane.of, lane.shape);
      else bars(g, lane, X, page);
    }
    page.appendChild(plot);
    items.sort((a, b) => a.at - b.at || a.y0 - b.y0);
    if (chosen) {
      const same = items.find((i) => i.at === chosen.at && i.lane === chosen.lane && i.text === chosen.text);
      chosen = same || { ...chosen, x0: X(chosen.at) - 6, x1: X(chosen.at) + 6 };
      if (chosen.x1 >= left - 6 && chosen.x0 <= right + 6) make("rect", { class: "chosen", x: Math.max(chosen.x0, left) - 2, y: chosen.y0 - 2, rx: 4,
        width: Math.max(Math.min(chosen.x1, right) - Math.max(chosen.x0, left), 2) + 4, height: chosen.y1 - chosen.y0 + 4 }, plot);
    }
    chart.setAttribute("height", y + 2);
    for (const [key, value] of [["x", left - 9], ["width", right - left + 18], ["height", y + 2]]) $("plot-box").setAttribute(key, value);
    drawing.replaceChildren(page);
    const digits = places(stepFor((view.to - view.from) / 1000));
    $("range").textContent = `${clock(view.from, digits)} – ${clock(view.to, digits)}`;
    for (const [id, off] of [["all", whole()], ["out", whole()], ["left", view.from <= 0], ["right", view.to >= END]]) $(id).disabled = off;
    overview(width);
    if ($("visible").checked) later();
  }
  const whole = () => view.from <= 0 && view.to >= END;

  function ticks(page, X, left, right, bottom) {
    const step = stepFor(((view.to - view.from) * (END >= 3600 ? 78 : 66)) / (right - left));
    const digits = places(step);
    for (let i = Math.ceil(view.from / step - 1e-9); i * step <= view.to * (1 + 1e-12); i += 1) {
      const x = X(i * step), text = clock(i * step, digits), half = widthOf(text) / 2;
      make("line", { x1: x, x2: x, y1: 20, y2: bottom, class: "grid" }, page);
      const at = Math.min(Math.max(x, left + half - 6), right - half + 8);
      make("text", { x: at, y: 15, "text-anchor": "middle", class: "soft" }, page, text);
    }
    make("line", { x1: left, x2: right, y1: 20, y2: 20, class: "rule" }, page);
  }

  function spans(g, lane, X) {
    const row = lane.rows ? FAULT_ROW : lane.high;
    let narrow = null;
    const flush = () => {
      if (!narrow) return;
      const one = narrow.list.length === 1;
      const told = one ? narrow.list[0][3] : summary(narrow.list);
      const x0 = narrow.x0, x1 = Math.max(narrow.x1, x0 + 3);
      put(narrow.y, x0, x1, one ? narrow.list[0][2] : `many ${longest(narrow.list)}`, told, narrow.list[0][0], narrow.list[narrow.list.length - 1][1], "");
      narrow = null;
    };
    const put = (y, x0, x1, kind, text, from, to, label) => {
      const a = Math.max(x0, place.left - 20), b = Math.min(x1, place.right + 20);
      if (b <= a) return;
      // Where many are one, the kind that takes most of the time lies below their pattern.
      for (const one of kind.split(" ").reverse()) make("rect", { class: one, x: a, y, width: b - a, height: row - (lane.rows ? 2 : 0) }, g);
      const start = Math.max(a, place.left) + 4, shown = label && fitting(label, Math.min(b, place.right) - start - 3);
      if (shown) make("text", { class: "inside", x: start, y: lane.rows ? y + 11 : y + row / 2 + 4 }, g, shown);
      items.push({ at: from, lane: lane.name, x0: a, x1: b, y0: y, y1: y + row, big: true,
        text: `${text}\n${exact(from)} to ${exact(to)}\n${lasting(to - from)} long` });
    };
    lane.of.forEach((span, index) => {
      if (span[1] < view.from || span[0] > view.to) return;
      const x0 = X(span[0]), x1 = X(span[1]), y = lane.y + (lane.rows ? lane.rows[index] * row : 0);
      if (x1 - x0 >= 3 || lane.rows) {
        flush();
        put(y, x0, Math.max(x1, x0 + 3), span[2], span[3], span[0], span[1], lane.label ? lane.label(span) : span[3]);
      } else if (narrow && x0 - narrow.x0 < 3) {
        narrow.list.push(span);
        narrow.x1 = x1;
      } else {
        flush();
        narrow = { x0, x1, y, list: [span] };
      }
    });
    flush();
  }
  function longest(list) {
    const sums = {};
    for (const [from, to, kinds] of list) {
      const kind = kinds.split(" ").pop();
      sums[kind] = (sums[kind] || 0) + to - from;
    }
    return Object.keys(sums).reduce((a, b) => (sums[b] > sums[a] ? b : a));
  }
  function summary(list) {
    const counts = {};
    for (const [, , kind] of list) counts[kind.split(" ").pop()] = (counts[kind.split(" ").pop()] || 0) + 1;
    const words = list.length <= 5 || list.some((s) => s[2].startsWith("many")) ? list.slice(0, 5).map((s) => s[3]).join("\n") : Object.entries(counts).map(([k, n]) => `${n} ${k}`).join(", ");
    return `${list.length} in quick turn:\n${words}`;
  }

  function marks(g, lane, X, list, shape) {
    const y = lane.y + lane.high / 2, fault = lane.kind === "fault";
    const groups = [];
    for (let i = firstFrom(list, view.from - 8 / place.scale, 0); i < list.length && list[i][0] <= view.to + 8 / place.scale; i += 1) {
      const mark = list[i], x = X(mark[0]), row = fault ? lane.rowOf.get(mark[2].split(" ")[0]) || 0 : 0;
      const group = groups.findLast((g) => g.row === row);
      if (group && x - group.x < 11) { group.n += mark[1]; group.list.push(mark); } else groups.push({ x, row, n: mark[1], list: [mark] });
    }
    groups.forEach((group, index) => {
      const at = fault ? lane.y + group.row * FAULT_ROW + 19 : y;
      const next = groups.slice(index + 1).find((g) => g.row === group.row);
      const before = index && groups[index - 1].row === group.row ? groups[index - 1].x : -Infinity;
      SHAPES[shape](g, group.x, at);
      const room = (next ? next.x - 8 : place.right) - group.x - 8;
      const told = group.n > 1 ? `×${count(group.n)}` : "";
      if (told && widthOf(told) <= room && group.x - before > 22) make("text", { class: shape === "violation" ? "count alarm" : "count", x: group.x + 9, y: at + 4 }, g, told);
      else if (!told && shape === "violation") {
        const text = fitting(group.list[0][2], (room - 6) / 1.15); // it is bold
        const behind = fitting(group.list[0][2], (group.x - Math.max(before, place.left) - 30) / 1.15);
        if (text.length >= Math.min(behind.length, 12)) make("text", { class: "count alarm", x: group.x + 12, y: at + 4 }, g, text);
        else if (before === -Infinity) make("text", { class: "count alarm", x: group.x - 12, y: at + 4, "text-anchor": "end" }, g, behind);
      }
      const texts = group.list.slice(0, 6).map((m) => m[2]);
      if (group.n > texts.length) texts.push(`… ${count(group.n)} in all`);
      const first = group.list[0][0], last = group.list[group.list.length - 1][0];
      items.push({ at: first, lane: lane.name, x0: group.x - 7, x1: group.x + 7, y0: at - 8, y1: at + 8,
        text: `${texts.join("\n")}\n${exact(first)}${last > first ? ` to ${exact(last)}` : ""}` });
    });
  }

  // --- messages ---

  const SERIES = ["delivered", "lost", "spoilt"];
  const CALLED = { delivered: "delivered", lost: "sent, never delivered", spoilt: "kept back or spoilt by a fault" };
  const bins = {};
  for (const name of SERIES) {
    const list = data.messages[name];
    bins[name] = [];
    for (let i = 0, at = 0; i < list.length; i += 2) bins[name].push([(at += list[i]), list[i + 1]]);
  }
  const BIN = END / data.messages.bins;
  const SENT = data.kinds.findIndex((k) => k[0] === "sent"), DELIVERED = data.kinds.findIndex((k) => k[0] === "delivered");
  const GONE = data.kinds.findIndex((k) => k[0] === "left out"), VIOLATION = data.kinds.findIndex((k) => k[0] === "violation");
  const column = (kind, name) => 2 + data.kinds[kind][1].indexOf(name);
  const SYMBOL = { [SENT]: column(SENT, "symbol"), [DELIVERED]: column(DELIVERED, "symbol") };
  const NUMBER = { [SENT]: column(SENT, "number"), [DELIVERED]: column(DELIVERED, "number") };
  const PRICE = { [SENT]: column(SENT, "price"), [DELIVERED]: column(DELIVERED, "price") };
  const INTACT = column(SENT, "intact");
  const named = (row) => `${row[SYMBOL[row[1]]]} #${row[NUMBER[row[1]]]}`;
  const gone = data.rows.filter((r) => r[1] === GONE);
  let arrived = null;

  // The messages in view one by one, where that is few and none of them was left out.
  function single() {
    if (gone.some((r) => r[0] <= view.to && r[2] >= view.from)) return null;
    const list = [];
    for (let i = firstFrom(data.rows, view.from, 0); i < data.rows.length && data.rows[i][0] <= view.to; i += 1) {
      const row = data.rows[i];
      if (row[1] === SENT || row[1] === DELIVERED) list.push(row);
      if (list.length > 400) return null;
    }
    if (!arrived) arrived = new Set(data.rows.filter((r) => r[1] === DELIVERED).map(named));
    return list;
  }

  function bars(g, lane, X, page) {
    const up = lane.y + 62, low = lane.y + lane.high;
    make("line", { x1: place.left, x2: place.right, y1: up, y2: up, class: "rule" }, g);
    const few = single();
    if (few) {
      const rows = { delivered: [], lost: [], spoilt: [] };
      for (const row of few) {
        const told = `${named(row)} at ${row[PRICE[row[1]]]}`;
        if (row[1] === DELIVERED) rows.delivered.push([row[0], 1, `${told}, delivered`]);
        else if (!arrived.has(named(row))) {
          const name = row[INTACT] === "True" ? "lost" : "spoilt";
          rows[name].push([row[0], 1, `${told}, ${CALLED[name]}`]);
        }
      }
      const close = rows.delivered.filter(([at], i, all) => i && (at - all[i - 1][0]) * place.scale < 6).length;
      if (close <= rows.delivered.length / 4) { // a dot each, if that is legible
        note(page, lane, ["each message by itself"]);
        for (const name of SERIES) dots(g, lane, X, rows[name], name, name === "delivered" ? up - 14 : name === "lost" ? up + 11 : up + 26);
        return;
      }
    }
    let seen = 0; // wide enough for some messages each, or a steady stream would look uneven
    for (let i = firstFrom(bins.delivered, Math.floor(view.from / BIN), 0); i < bins.delivered.length && bins.delivered[i][0] * BIN <= view.to; i += 1) seen += bins.delivered[i][1];
    const even = Math.min((12 * (place.right - place.left)) / Math.max(seen, 1), 16);
    const bundle = Math.max(Math.ceil(Math.max(even, 3) / (BIN * place.scale)), 1), per = bundle * BIN, wide = per * place.scale;
    const columns = new Map();
    for (const name of SERIES) {
      const list = bins[name];
      for (let i = firstFrom(list, Math.floor(view.from / per) * bundle, 0); i < list.length && list[i][0] * BIN <= view.to + per; i += 1) {
        const c = Math.floor(list[i][0] / bundle);
        const column = columns.get(c) || { delivered: 0, lost: 0, spoilt: 0, first: Infinity, last: 0 };
        column[name] += list[i][1];
        if (name === "delivered") { column.first = Math.min(column.first, list[i][0]); column.last = list[i][0] + 1; }
        columns.set(c, column);
      }
    }
    let most = 0, lost = 0;
    for (const [index, c] of columns) {
      // Beside an empty one, a column is as wide as what is in it, so that a silence has its true length.
      const beside = (other) => columns.get(other)?.delivered;
      c.from = beside(index - 1) ? index * per : Math.max(c.first * BIN, index * per);
      c.to = Math.min(beside(index + 1) ? (index + 1) * per : Math.min(c.last * BIN, (index + 1) * per), END);
      c.rate = c.delivered / Math.max(c.to - c.from, per * 0.4);
      most = Math.max(most, c.delivered ? c.rate : 0);
      lost = Math.max(lost, c.lost + c.spoilt);
    }
    let d = "";
    for (const [index, column] of columns) {
      const x = X(index * per), gap = wide > 6 ? 1 : 0;
      if (column.delivered) {
        const high = Math.max((column.rate / most) * 58, 1.5), long = Math.max((column.to - column.from) * place.scale - gap, 1.5);
        d += `M${X(column.from).toFixed(1)} ${up}v${-high.toFixed(1)}h${long.toFixed(1)}V${up}z`;
      }
      let y = up + 2;
      for (const name of ["lost", "spoilt"]) {
        if (!column[name]) continue;
        const high = Math.max((column[name] / lost) * (low - up - 8), 5);
        make("rect", { class: name, x, y, width: Math.max(wide - gap, 3), height: Math.min(high, low - y) }, g);
        y += high + 1;
      }
      const told = SERIES.filter((n) => column[n]).map((n) => `${count(column[n])} ${CALLED[n]}`);
      items.push({ at: index * per, lane: lane.name, x0: x, x1: x + wide, y0: up - 60, y1: low, column: true, quiet: !(column.lost || column.spoilt),
        text: `${told.join("\n")}\nfrom ${exact(index * per)}, for ${lasting(per)}` });
    }
    if (d) make("path", { class: "delivered", d }, g);
    const notes = [most && `▲ delivered, ≤ ${rate(most)}`, lost && `▼ sent in vain, ≤ ${rate(lost / per)}`,
      place.left > 100 && columns.size && `a bar is ${lasting(per)}`].filter(Boolean);
    note(page, lane, notes);
  }
  function note(page, lane, notes) {
    if (place.left > 100) notes.forEach((text, i) => make("text", { class: "soft", x: 10, y: lane.y + 34 + 16 * i }, page, text));
    else make("text", { class: "soft", x: place.right, y: lane.y - 5, "text-anchor": "end" }, page, fitting(notes.join("  ").replaceAll("delivered, ", "").replaceAll("sent in vain, ", ""), place.right - place.left - 70));
  }
  const rate = (r) => (r >= 1 || !r ? `${count(Number(r.toPrecision(2)))}/s` : r * 60 >= 1 ? `${Number((r * 60).toPrecision(2))}/min` : `${Number((r * 3600).toPrecision(2))}/h`);

  function dots(g, lane, X, list, name, y) {
    if (!list.length) return;
    for (const [at, , text] of list) {
      const x = X(at);
      if (name === "delivered") make("circle", { class: name, cx: x, cy: y, r: 3 }, g);
      else if (name === "lost") make("path", { class: name, d: `M${x - 5} ${y - 5}h10l-5 9z` }, g);
      else make("rect", { class: name, x: x - 4, y: y - 4, width: 8, height: 8 }, g);
      items.push({ at, lane: lane.name, x0: x - 3, x1: x + 3, y0: y - 6, y1: y + 6, quiet: name === "delivered", text: `${text}\n${exact(at)}` });
    }
    make("text", { class: "inside soft", x: place.left + 2, y: name === "delivered" ? y - 12 : y + 4 }, g, CALLED[name]);
  }

  // --- the whole run in one strip ---

  function overview(width) {
    const strip = $("overview"), X = (at) => place.left + (at / END) * (place.right - place.left);
    if (strip.drawn !== width) {
      strip.drawn = width;
      const long = place.right - place.left, wide = Math.min(Math.max((12 * long) / (data.messages.totals.delivered || 1), 2), 12);
      const columns = new Float64Array(Math.floor(long / wide) + 1);
      for (const [bin, n] of bins.delivered) columns[Math.floor(((bin / data.messages.bins) * long) / wide)] += n;
      const most = columns.reduce((a, b) => Math.max(a, b), 1);
      let d = "";
      columns.forEach((n, i) => { if (n) d += `M${place.left + i * wide} 27v${-Math.max((n / most) * 21, 1).toFixed(1)}h${Math.min(wide, long - i * wide).toFixed(1)}V27z`; });
      strip.replaceChildren();
      make("path", { class: "delivered", d, "fill-opacity": 0.45 }, strip);
      for (const [at] of data.violations) make("path", { class: "m-violation", d: `M${X(at) - 4} 3h8l-4 8z` }, strip);
      make("rect", { class: "window", y: 1.5, height: 27, rx: 3 }, strip);
    }
    const x = X(view.from), box = strip.lastChild;
    box.setAttribute("x", x);
    box.setAttribute("width", Math.max(X(view.to) - x, 4));
  }

  // --- moving about ---

  function show(from, to) {
    const span = Math.min(Math.max(to - from, LEAST), END);
    const start = Math.min(Math.max(from + (to - from - span) / 2, 0), END - span);
    view.from = Math.max(start, 0);
    view.to = Math.min(view.from + span, END);
    redraw();
  }
  function redraw() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(draw);
  }
  const zoom = (factor, about = (view.from + view.to) / 2) => show(about - (about - view.from) * factor, about + (view.to - about) * factor);
  const move = (part) => { const by = (view.to - view.from) * part; show(view.from + by, view.to + by); };
  const atX = (clientX) => view.from + (clientX - chart.getBoundingClientRect().left - place.left) / place.scale;

  function point(item, x, y, said) {
    if (!item) { tip.hidden = true; return; }
    tip.textContent = `${item.lane}: ${item.text}`;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const over = y - box.height - 14;
    tip.style.left = `${Math.max(8, Math.min(x + 12, innerWidth - box.width - 8))}px`;
    tip.style.top = `${over > 4 ? over : Math.min(y + 20, innerHeight - box.height - 8)}px`;
    if (said) $("said").textContent = tip.textContent;
  }
  function choose(item, open = true) {
    chosen = item;
    const told = chart.getBoundingClientRect();
    if (!item) { redraw(); point(null); return; }
    draw();
    if (open) point(chosen, told.left + Math.min(Math.max((chosen.x0 + chosen.x1) / 2, place.left), place.right), told.top + chosen.y0, true);
  }
  function step(by) {
    const list = items.filter((i) => !i.quiet);
    if (!list.length) return;
    const now = chosen ? list.indexOf(list.find((i) => i.at === chosen.at && i.lane === chosen.lane && i.text === chosen.text)) : -1;
    let to = now < 0 ? (by > 0 ? 0 : list.length - 1) : now + by;
    if (chosen && now < 0) {
      to = list.findIndex((i) => i.at > chosen.at);
      to = by > 0 ? to : (to < 0 ? list.length : to) - 1;
    }
    if (to >= 0 && to < list.length) { choose(list[to]); return; }
    if ((by > 0 && view.to < END) || (by < 0 && view.from > 0)) { // further on, in the next stretch
      move(by * 0.8);
      draw();
      const more = items.filter((i) => !i.quiet && (by > 0 ? i.at > (chosen ? chosen.at : view.from) : i.at < (chosen ? chosen.at : view.to)));
      if (more.length) { choose(by > 0 ? more[0] : more[more.length - 1]); return; }
    }
    $("said").textContent = by > 0 ? "No later item." : "No earlier item.";
  }
  function hit(event) {
    const box = chart.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    const slack = event.pointerType === "touch" ? 14 : 4;
    let best = null, least = Infinity;
    for (const item of items) {
      if (y < item.y0 - (item.big || item.column ? 0 : slack) || y > item.y1 + (item.big || item.column ? 0 : slack)) continue;
      if (x < item.x0 - slack || x > item.x1 + slack) continue;
      const off = Math.abs(x - (item.x0 + item.x1) / 2);
      const far = item.big ? 1000 + (x >= item.x0 && x <= item.x1 ? 0 : 500) + (item.x1 - item.x0) / 100 : off;
      if (far < least) { least = far; best = item; }
    }
    return best;
  }

  const pointers = new Map();
  let grip = null;
  const hold = () => {
    const xs = [...pointers.values()].map((p) => p.x);
    grip = { from: view.from, to: view.to, x: (Math.min(...xs) + Math.max(...xs)) / 2, wide: Math.max(...xs) - Math.min(...xs) };
  };
  chart.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    pointers.set(event.pointerId, { x: event.clientX, began: event.clientX, beganY: event.clientY, moved: false });
    chart.setPointerCapture(event.pointerId);
    hold();
  });
  chart.addEventListener("pointermove", (event) => {
    const held = pointers.get(event.pointerId);
    if (!held) { if (!(event.buttons)) point(hit(event), event.clientX, event.clientY); return; }
    held.x = event.clientX;
    if (Math.abs(held.x - held.began) > 5) held.moved = true;
    if (!held.moved && pointers.size < 2) return;
    chart.classList.add("held");
    point(null);
    const xs = [...pointers.values()].map((p) => p.x), middle = (Math.min(...xs) + Math.max(...xs)) / 2;
    const factor = pointers.size > 1 ? Math.max(grip.wide, 20) / Math.max(Math.max(...xs) - Math.min(...xs), 20) : 1;
    const span = (grip.to - grip.from) * factor, left = chart.getBoundingClientRect().left + place.left;
    const about = grip.from + ((grip.x - left) / (place.right - place.left)) * (grip.to - grip.from);
    const from = about - ((middle - left) / (place.right - place.left)) * span;
    show(from, from + span);
  });
  const release = (event) => {
    const held = pointers.get(event.pointerId);
    pointers.delete(event.pointerId);
    if (pointers.size) hold(); else chart.classList.remove("held");
    if (held && !held.moved && event.type === "pointerup" && !pointers.size) {
      const item = hit(event);
      choose(item, false);
      point(item, event.clientX, event.clientY, true);
      if (item) turnTo(item.at);
    }
  };
  chart.addEventListener("pointerup", release);
  chart.addEventListener("pointercancel", release);
  chart.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") point(null); });
  chart.addEventListener("dblclick", (event) => zoom(1 / 3, atX(event.clientX)));
  frame.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== frame) return;
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
      event.preventDefault();
      move((event.deltaX || event.deltaY) / 1000);
    } else {
      if (event.deltaY > 0 && whole() && !event.ctrlKey) return; // let the page scroll on
      event.preventDefault();
      point(null);
      zoom(Math.exp(Math.max(Math.min(event.deltaY, 200), -200) * 0.003), atX(event.clientX));
    }
  }, { passive: false });
  const drag = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const at = ((event.clientX - $("overview").getBoundingClientRect().left - place.left) / (place.right - place.left)) * END;
    const half = (view.to - view.from) / 2;
    show(at - half, at + half);
  };
  $("overview").addEventListener("pointerdown", (event) => { $("overview").setPointerCapture(event.pointerId); drag(event); });
  $("overview").addEventListener("pointermove", drag);

  const KEYS = {
    ArrowLeft: () => move(-0.15), ArrowRight: () => move(0.15), PageUp: () => move(-0.9), PageDown: () => move(0.9),
    Home: () => move(-1e9), End: () => move(1e9), "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), "−": () => zoom(1 / 0.6),
    0: () => show(0, END), n: () => step(1), p: () => step(-1), Escape: () => choose(null),
    Enter: () => { if (chosen) { turnTo(chosen.at); $("rows").parentElement.parentElement.focus(); } },
  };
  frame.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = KEYS[event.key] || KEYS[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  });
  frame.addEventListener("blur", () => point(null));
  const CLICKS = { in: "+", out: "-", left: "ArrowLeft", right: "ArrowRight", all: "0", next: "n", previous: "p" };
  for (const id in CLICKS) $(id).addEventListener("click", () => KEYS[CLICKS[id]]());
  addEventListener("scroll", () => point(null), { passive: true });
  addEventListener("keydown", (event) => { if (event.key === "Escape") point(null); });

  function centre(at) {
    const half = Math.min((view.to - view.from) / 2, Math.max(END / 300, Math.min(END / 40, 5)));
    show(at - half, at + half);
    draw();
    choose(items.filter((i) => Math.abs(i.at - at) < 1e-6 && !i.big).sort((a, b) => (b.lane === "Violations") - (a.lane === "Violations"))[0] || null, false);
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".goto");
    if (!button) return;
    const at = Number(button.dataset.at);
    centre(at);
    if ($("visible").checked) filter();
    turnTo(at);
    frame.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  });

  // --- the table ---

  const PAGE = 100;
  const texts = new Array(data.rows.length);
  const off = new Set();
  let matching = [], from = 0, here = null, timer = 0;

  function textOf(row) {
    const [kind, names] = data.kinds[row[1]];
    if (row[1] === GONE) return `${row[3]} until ${Number(row[2]).toFixed(6)}`;
    if (row[1] === VIOLATION) return `${row[2]}: ${row[3]}`;
    return names.map((name, i) => `${name}=${row[i + 2]}`).join(" ") || kind;
  }
  const low = (i) => (texts[i] ||= `${data.kinds[data.rows[i][1]][0]} ${textOf(data.rows[i])}`.toLowerCase());

  function filter() {
    const words = $("text").value.toLowerCase().split(/\s+/).filter(Boolean), only = $("visible").checked;
    matching = [];
    for (let i = 0; i < data.rows.length; i += 1) {
      const row = data.rows[i];
      if (off.has(row[1])) continue;
      if (only && (row[0] > view.to || (row[1] === GONE ? row[2] : row[0]) < view.from)) continue;
      if (words.length) { const text = low(i); if (!words.every((w) => text.includes(w))) continue; }
      matching.push(i);
    }
    from = Math.min(from, Math.max(Math.floor((matching.length - 1) / PAGE) * PAGE, 0));
    const told = data.kinds.length - off.size;
    $("kinds-told").textContent = off.size ? `(${told} of ${data.kinds.length})` : "(all)";
    list();
  }
  function later(start) {
    if (start !== undefined) from = start;
    clearTimeout(timer);
    timer = setTimeout(filter, 120);
  }
  function list() {
    const page = document.createDocumentFragment();
    for (const index of matching.slice(from, from + PAGE)) {
      const row = data.rows[index], line = document.createElement("tr");
      if (row[1] === VIOLATION) line.className = "violation";
      if (row[1] === GONE) line.className = "gone";
      if (index === here) line.classList.add("here");
      const time = line.insertCell(), kind = line.insertCell(), what = line.insertCell();
      line.setAttribute("role", "row"); // a narrow page shows these as blocks, and they stay a table
      for (const cell of line.cells) cell.setAttribute("role", "cell");
      const button = document.createElement("button");
      button.type = "button";
      button.className = "goto";
      button.dataset.at = row[0];
      button.textContent = row[0].toFixed(6);
      button.title = "Show in the timeline";
      time.appendChild(button);
      kind.textContent = (row[1] === VIOLATION ? "✖ " : row[1] === GONE ? "… " : "") + data.kinds[row[1]][0];
      if (row[1] === GONE || row[1] === VIOLATION) what.textContent = textOf(row);
      else data.kinds[row[1]][1].forEach((name, i) => {
        const label = document.createElement("i");
        label.textContent = `${i ? " " : ""}${name}=`;
        what.append(label, String(row[i + 2]));
      });
      page.appendChild(line);
    }
    $("rows").replaceChildren(page);
    const n = matching.length;
    $("page").textContent = n ? `${count(from + 1)}–${count(Math.min(from + PAGE, n))} of ${count(n)}` : "No record matches.";
    $("first").disabled = $("back").disabled = from <= 0;
    $("last").disabled = $("forward").disabled = from + PAGE >= n;
  }
  function turnTo(at) {
    let index = matching.findIndex((i) => data.rows[i][0] >= at - 1e-6);
    if (index < 0) return;
    const broken = matching.slice(index, index + 200).find((i) => data.rows[i][1] === VIOLATION && Math.abs(data.rows[i][0] - at) < 1e-6);
    if (broken !== undefined) index = matching.indexOf(broken);
    here = matching[index];
    from = Math.floor(index / PAGE) * PAGE;
    list();
    const line = $("rows").querySelector(".here"), box = $("rows").parentElement.parentElement;
    if (line) box.scrollTop = line.offsetTop - box.clientHeight / 3;
  }
  const turn = (to) => { from = Math.max(to, 0); list(); $("rows").parentElement.parentElement.scrollTop = 0; };
  $("first").addEventListener("click", () => turn(0));
  $("back").addEventListener("click", () => turn(from - PAGE));
  $("forward").addEventListener("click", () => turn(from + PAGE));
  $("last").addEventListener("click", () => turn(Math.floor((matching.length - 1) / PAGE) * PAGE));
  $("text").addEventListener("input", () => later(0));
  $("visible").addEventListener("change", () => later(0));
  $("filter").addEventListener("submit", (event) => event.preventDefault());

  const totals = data.kinds.map(() => 0);
  for (const row of data.rows) totals[row[1]] += 1;
  const ticksOf = data.kinds.map(([name], index) => {
    if (!totals[index]) return null;
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => { if (box.checked) off.delete(index); else off.add(index); later(0); });
    label.append(box, `${name} (${count(totals[index])})`);
    $("kinds").appendChild(label);
    return box;
  });
  const tickAll = (wanted) => ticksOf.forEach((box, index) => {
    if (!box) return;
    box.checked = wanted(index);
    if (box.checked) off.delete(index); else off.add(index);
    later(0);
  });
  $("kinds-all").addEventListener("click", () => tickAll(() => true));
  $("kinds-none").addEventListener("click", () => tickAll(() => false));
  $("kinds-quiet").addEventListener("click", () => tickAll((i) => i !== SENT && i !== DELIVERED));

  // --- what the shapes mean ---

  const LEGEND = [
    ...["disconnected", "connecting", "connected", "reconnecting", "closing", "closed"].map((s) => [s, `connection: ${s}`]),
    ["many", "several in quick turn: zoom in"], ["open", "circuit breaker open"], ["wait", "back-off wait"],
    ["in-place", "fault in place"], ["fired", "fault acts"], ["delivered", "messages delivered"], ["lost", "sent, never delivered"],
    ["spoilt", "kept back or spoilt by a fault"], ["gap", "gap announced"], ["error", "decode error, refusal, or gave up"], ["violation", "rule broken"],
  ];
  for (const [kind, words] of LEGEND) {
    const item = document.createElement("li"), svg = make("svg", { viewBox: "0 0 34 18", "aria-hidden": "true" }, item);
    if (SHAPES[kind]) SHAPES[kind](svg, 17, 9); else make("rect", { class: kind, x: 1, y: 1, width: 32, height: 16 }, svg);
    item.append(words);
    $("legend").appendChild(item);
  }

  if (innerWidth > 640) $("key-box").open = true;
  new ResizeObserver(redraw).observe(frame);
  draw();
  filter();
})();
