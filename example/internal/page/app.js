// The page of the machine: two EventSources, four charts, and the access log.

import { took } from "./took.js";

const $ = (selector, root = document) => root.querySelector(selector);

// A random name for this page. The server finds the page's streams by it when the user drops
// the connections. (Not crypto.randomUUID, which pages over http have only on localhost.)
const page = Array.from(crypto.getRandomValues(new Uint32Array(2)), n => n.toString(36)).join("");

// How long the browser waits before it reconnects, in milliseconds. The server also sends
// it in its "host" event, because a page cannot read the stream's own "retry" field.
let retry = 3000;

// ---------------------------------------------------------------- connections

// A Stream is an EventSource and what the page shows of it.
//
// When the connection breaks, the browser reconnects by itself, with Last-Event-ID. The page
// opens a new EventSource in two cases. If a response is not a stream, such as a proxy's error
// page, the browser gives up for good, and the page tries again. And a hidden page closes its
// streams, because a browser has only six connections to an HTTP/1.1 server, and opens new
// ones when it is shown. A new EventSource has no last id, so the URL contains it.
class Stream {
  static all = [];

  events = 0;
  reconnects = 0;
  lastID = "";
  state = "connecting";
  #source;
  #timer;
  #due = 0; // when the next attempt is due
  #opened = false; // it has been open before

  constructor(path, view, { on, lost = () => {}, resumed = () => {} }) {
    Object.assign(this, { path, view, on, lost, resumed });
    Stream.all.push(this);
    this.open();
  }

  open() {
    clearTimeout(this.#timer);
    const query = new URLSearchParams({ page });
    if (this.lastID) query.set("from", this.lastID);
    const source = this.#source = new EventSource(`${this.path}?${query}`);
    this.#become("connecting");

    source.onopen = () => {
      if (this.#opened) {
        this.reconnects++;
        this.resumed(this.lastID);
      }
      this.#opened = true;
      this.#become("open");
    };
    source.onerror = () => {
      if (this.state === "open") this.lost();
      this.#due = Date.now() + retry;
      this.#become("retrying");
      if (source.readyState === EventSource.CLOSED) {
        this.#timer = setTimeout(() => this.open(), retry);
      }
    };
    for (const [name, handle] of Object.entries(this.on)) {
      source.addEventListener(name, event => {
        this.events++;
        if (event.lastEventId) this.lastID = event.lastEventId;
        handle(event);
        this.#show();
      });
    }
  }

  pause() {
    if (this.state === "paused") return;
    if (this.state === "open") this.lost();
    clearTimeout(this.#timer);
    this.#source.close();
    this.#become("paused");
  }

  resume() {
    if (this.state === "paused") this.open();
  }

  tick() {
    if (this.state === "retrying") this.#show();
  }

  #become(state) {
    this.state = state;
    this.#show();
    announce();
  }

  #show() {
    const wait = (this.#due - Date.now()) / 1000;
    const word = this.state !== "retrying" ? this.state
      : wait > 0 ? `retrying in ${wait.toFixed(1)} s` : "connecting";
    this.view.dataset.state = this.state;
    $(".state", this.view).textContent = word;
    $(".events", this.view).textContent = count(this.events);
    $(".reconnects", this.view).textContent = count(this.reconnects);
    $(".id", this.view).textContent = this.lastID || "none";
  }
}

// announce tells users of screen readers when a stream is lost and when all streams are
// open. It announces no other state.
let announced = "";
function announce() {
  const down = Stream.all.filter(s => s.state === "retrying").length;
  const open = Stream.all.filter(s => s.state === "open").length;
  const text = down ? "Connection lost, retrying."
    : open === Stream.all.length ? "All streams are open." : announced;
  if (text !== announced) $("#announce").textContent = announced = text;
}

setInterval(() => Stream.all.forEach(s => s.tick()), 100);

let leaving;
document.addEventListener("visibilitychange", () => {
  clearTimeout(leaving);
  if (document.hidden) leaving = setTimeout(() => Stream.all.forEach(s => s.pause()), 5000);
  else Stream.all.forEach(s => s.resume());
});

// A browser may keep a page after the user has left it, and its connections too, in case the
// user goes back. Other pages need those connections.
addEventListener("pagehide", () => Stream.all.forEach(s => s.pause()));
addEventListener("pageshow", event => { if (event.persisted) Stream.all.forEach(s => s.resume()); });

// --------------------------------------------------------------------- charts

const span = 60_000; // the time that a chart shows, in milliseconds
const width = 600, height = 100; // of a chart, in SVG units

const samples = []; // the samples of the last minute, oldest first; at is a sample's time
const outages = []; // when the stream was down: [from, to], in the server's time
let skew = 0; // how far the server's clock is ahead of this one, in milliseconds

const now = () => Date.now() + skew;

class Chart {
  #svg; #top; #lines; #scale;

  // lines returns an array of [class name, sample => number or undefined]. Lines of the
  // class "second" go down from a base line in the middle. scale takes the greatest number
  // that is shown, and returns the number at the top of the chart and its label.
  constructor(root, label, lines, scale) {
    this.#svg = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label });
    this.#top = document.createElement("span");
    this.#top.className = "top";
    root.append(this.#svg, this.#top);
    this.#lines = lines;
    this.#scale = scale;
  }

  draw() {
    const end = now();
    const x = at => width * (1 - (end - at) / span);
    const lines = this.#lines(samples.at(-1));
    const values = lines.flatMap(([, pick]) => samples.map(s => pick(s) ?? 0));
    const [top, name] = this.#scale(Math.max(0, ...values));
    const base = lines.some(([kind]) => kind === "second") ? height / 2 : height - 1;
    const y = (value, kind) => base - (kind === "second" ? -1 : 1) * (base - 3) * value / top;

    const parts = outages.map(([from, to]) => {
      const left = Math.max(0, x(from));
      return svg("rect", { class: "band", x: left, y: 0, width: Math.max(0, x(to ?? end) - left), height });
    });
    // The base line, and a mark every 15 seconds.
    const marks = [1, 2, 3].map(n => `M${width * n / 4} 0V${height}`).join("");
    parts.push(svg("path", { class: "mark", d: marks }), svg("path", { class: "base", d: `M0 ${base}H${width}` }));
    for (const [kind, pick] of lines) {
      for (const run of runs(pick)) {
        const line = run.map(([at, value]) => `${x(at).toFixed(1)} ${y(value, kind).toFixed(1)}`).join("L");
        if (kind !== "faint") {
          const from = x(run[0][0]).toFixed(1), to = x(run.at(-1)[0]).toFixed(1);
          parts.push(svg("path", { class: `area ${kind}`, d: `M${from} ${base}L${line}L${to} ${base}Z` }));
        }
        parts.push(svg("path", { class: kind, d: `M${line}` }));
      }
    }
    this.#svg.replaceChildren(...parts);
    this.#top.textContent = name;
  }
}

// runs splits a line where samples are missing, so that the chart shows the gap.
function runs(pick) {
  const all = [];
  let before = -Infinity;
  for (const sample of samples) {
    const value = pick(sample);
    if (value === undefined) continue;
    if (sample.at - before > 2500) all.push([]);
    all.at(-1).push([sample.at, value]);
    before = sample.at;
  }
  return all;
}

const charts = [
  new Chart($("#cpu .chart"), "Processor use of the last minute, in percent",
    last => [...(last?.cpu?.cores ?? []).slice(0, 16).map((_, i) => ["faint", s => s.cpu?.cores[i]]), ["first", s => s.cpu?.total]],
    () => [100, "100 %"]),
  new Chart($("#memory .chart"), "Memory use of the last minute",
    () => [["first", s => s.memory && 100 * s.memory.used / s.memory.total]],
    () => [100, "100 %"]),
  new Chart($("#network .chart"), "Network traffic of the last minute, in bytes per second",
    () => [["first", s => s.network?.in], ["second", s => s.network?.out]], rateScale),
  new Chart($("#disk .chart"), "Disk traffic of the last minute, in bytes per second",
    () => [["first", s => s.disk?.read], ["second", s => s.disk?.write]], rateScale),
];

// rateScale rounds up to 1, 2, or 5 times a power of ten. It returns at least 1 kB/s, so that
// very little traffic does not fill the chart.
function rateScale(most) {
  const power = 10 ** Math.floor(Math.log10(Math.max(most, 1000)));
  const top = [1, 2, 5, 10].map(n => n * power).find(n => n >= most);
  return [top, rate(top).replace(".0 ", " ")];
}

function drawAll() {
  const oldest = now() - span - 2000;
  while (samples.length && samples[0].at < oldest) samples.shift();
  while (outages.length && outages[0][1] < oldest) outages.shift();
  charts.forEach(chart => chart.draw());
}

// Samples that come together are drawn together.
let drawing = 0;
const drawSoon = () => { drawing ||= requestAnimationFrame(() => { drawing = 0; drawAll(); }); };

// While no samples come, the charts must still move with the time.
setInterval(() => { if (vitals.state !== "open") drawSoon(); }, 1000);

function showVitals(v) {
  const set = (selector, text) => { $(selector).textContent = text; };
  const percent = n => `${n.toFixed(1)} %`;
  if (v.cpu) {
    set("#cpu .value", percent(v.cpu.total));
    set("#cpu .note", v.cpu.cores.length === 1 ? "1 core" : `${v.cpu.cores.length} cores`);
    const bars = $("#cpu .cores");
    const shown = v.cpu.cores.slice(0, 16);
    while (bars.children.length < shown.length) bars.append(document.createElement("i"));
    shown.forEach((busy, i) => bars.children[i].style.setProperty("--busy", busy / 100));
  } else set("#cpu .note", "not available on this machine");
  if (v.memory) {
    set("#memory .value", percent(100 * v.memory.used / v.memory.total));
    set("#memory .note", `${binary(v.memory.used)} of ${binary(v.memory.total)}`);
  } else set("#memory .note", "not available on this machine");
  if (v.network) {
    set("#network .first", rate(v.network.in));
    set("#network .second", rate(v.network.out));
  } else set("#network .note", "not available on this machine");
  if (v.disk) {
    set("#disk .first", rate(v.disk.read));
    set("#disk .second", rate(v.disk.write));
    if (v.disk.total) set("#disk .note", `${decimal(v.disk.used)} of ${decimal(v.disk.total)} full`);
  } else set("#disk .note", "not available on this machine");
}

let freshClock = true;
const vitals = new Stream("/vitals", $("#wire-vitals"), {
  on: {
    host(event) {
      const host = JSON.parse(event.data);
      retry = host.retry;
      freshClock = true;
      $("#host").textContent = [host.system, host.cpu].filter(Boolean).join(" · ");
    },
    vitals(event) {
      const v = JSON.parse(event.data);
      v.at = Date.parse(v.time);
      // For a sample that is some time old, the difference is too small by that time. So the
      // greatest difference is closest to the real one.
      const ahead = v.at - Date.now();
      skew = freshClock ? ahead : Math.max(skew, ahead);
      freshClock = false;
      if (samples.length && v.at <= samples.at(-1).at) return;
      samples.push(v);
      showVitals(v);
      drawSoon();
    },
  },
  lost() { outages.push([now(), undefined]); drawSoon(); },
  resumed() { if (outages.length) outages.at(-1)[1] ??= now(); },
});

// ------------------------------------------------------------------------ log

const maxLines = 500;
const lines = $("#lines");
const newest = $("#newest");
const encoder = new TextEncoder();

let following = true; // the log is scrolled to its end and must stay there
let unseen = 0; // lines that came while it was not
let pending = []; // rows that wait for the next frame

const logStream = new Stream("/log", $("#wire-log"), {
  on: {
    message(event) {
      const end = Number(event.lastEventId);
      proof.take(end, encoder.encode(event.data).length + 1);
      addLine(end, event.data);
    },
    reset(event) {
      proof.reset();
      notice(`The server could not resume the log: ${event.data}.`);
    },
  },
  lost() { lostAt = Date.now(); notice(`${clock()} The connection was lost.`); },
  resumed(id) {
    notice(`${clock()} Reconnected after ${took(Date.now() - lostAt)}. ` +
      (id ? `The log resumes at byte ${count(id)}.` : "No line had come before."));
  },
});
let lostAt = 0;

// proof checks that no byte was lost and none came twice. The id of a line is the byte at
// which it ends. Its length then gives the byte at which it starts, and the line before it
// must have ended there.
const proof = {
  start: undefined, end: undefined, lost: 0, again: 0,
  take(end, length) {
    const start = end - length;
    this.start ??= start;
    this.end ??= start;
    if (start > this.end) this.lost += start - this.end;
    if (start < this.end) this.again += this.end - start;
    this.end = end;
  },
  reset() { this.start = this.end = undefined; },
  show() {
    if (this.end === undefined) return;
    const broken = this.lost || this.again;
    const verdict = broken ? `${count(this.lost)} lost, ${count(this.again)} repeated` : "none lost, none repeated";
    $("#proof").textContent = `Bytes ${count(this.start)} to ${count(this.end)}: ${verdict}.`;
    $("#proof").toggleAttribute("data-broken", Boolean(broken));
  },
};

// The parts of a line of the access log: the date, the time, the status, the request, and
// between the last two the bytes, the duration, and the address.
const accessLine = /^(\d{4}-\d\d-\d\dT)(\S+ )(\d{3})( +\d+ B +[\d.]+ ?[a-z]+ \S+ )(".*")$/;

// addLine shows a line. Strangers wrote a part of it, so it is only ever added as text.
function addLine(end, line) {
  const row = element("div", "line");
  const text = element("span", "text");
  const [, date, time, status, middle, request] = line.match(accessLine) ?? [];
  if (status) {
    const kind = status < "300" ? "ok" : status < "400" ? "turn" : "fault";
    text.append(element("span", "dim date", date), element("span", "dim", time), element("span", kind, status), element("span", "dim", middle), request);
  } else {
    text.textContent = line;
  }
  row.append(element("span", "at", count(end)), text);
  addRow(row);
  unseen++;
}

function notice(text) { addRow(element("p", "notice", text)); }

function addRow(row) {
  if (!pending.length) requestAnimationFrame(flush);
  pending.push(row);
  if (pending.length > maxLines) pending.shift(); // a hidden page gets no frames
}

// flush adds all rows that came since the last frame.
function flush() {
  lines.append(...pending);
  pending = [];
  // While the user reads older lines, up to four times as many are kept, so that they do
  // not disappear while being read.
  const keep = following ? maxLines : 4 * maxLines;
  while (lines.childElementCount > keep) lines.firstElementChild.remove();
  if (following) lines.scrollTop = lines.scrollHeight;
  proof.show();
  showNewest();
}

function showNewest() {
  if (following) unseen = 0;
  newest.hidden = following;
  newest.textContent = unseen ? `${count(unseen)} new` : "To the end";
}

lines.addEventListener("scroll", () => {
  following = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 24;
  showNewest();
});

newest.addEventListener("click", () => {
  following = true;
  lines.scrollTop = lines.scrollHeight;
  lines.focus();
  showNewest();
});

// -------------------------------------------------------------------- buttons

const ask = (url, options) => fetch(url, { cache: "no-store", ...options }).catch(() => notice("The server does not respond."));

$("#one").addEventListener("click", () => ask("/hello"));
$("#twenty").addEventListener("click", () => { for (let i = 1; i <= 20; i++) ask(`/hello?${i}`); });
$("#drop").addEventListener("click", () => ask(`/drop?page=${page}`, { method: "POST" }));

$("#curl").textContent = `curl -N ${location.origin}/vitals\ncurl -N ${location.origin}/log`;

// -------------------------------------------------------------------- helpers

function element(tag, className, text = "") {
  const e = document.createElement(tag);
  e.className = className;
  e.textContent = text;
  return e;
}

function svg(tag, attributes) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  return e;
}

function count(n) { return Number(n).toLocaleString("en"); }
function clock() { return new Date().toLocaleTimeString("en-GB"); }
function rate(n) { return `${decimal(n)}/s`; }
function decimal(n) { return scaled(n, 1000, ["B", "kB", "MB", "GB", "TB", "PB"]); }
function binary(n) { return scaled(n, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]); }

function scaled(n, step, units) {
  let i = 0;
  for (; n >= step && i < units.length - 1; i++) n /= step;
  return `${i && n < 100 ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}
