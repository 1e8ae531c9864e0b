// The chat room: one EventSource, and a page that shows the state of the room.
//
// The server sends a new client a "snapshot" of that state, and then each change: "message",
// "joined", and "left". After a lost connection it sends the changes that the client missed.
// One of them may be "started": the server has restarted, and those who were connected to it
// have left. If several servers are one room, they are its nodes, and each person and the
// event "live" have the name of one.
// If it no longer has all of them, it sends a "gap" and a snapshot instead. In each case the
// event "live" comes next, and after it all changes are new ones.

import { took } from "./took.js";

const $ = (selector, root = document) => root.querySelector(selector);

// ----------------------------------------------------------------- connection

const view = $("#wire");
let source;
let name = sessionStorage.getItem("name") || invent();
let lastID = "";
let node = ""; // which serves this window, if there are several
let events = 0, reconnects = 0;
let opened = false; // a stream has been open before
let lostAt = 0; // when the connection was lost

// connect opens a new EventSource. It is called when the page opens and when the name
// changes. After a lost connection the browser reconnects by itself, with Last-Event-ID.
//
// A new EventSource has no last id, so the URL contains the id if the page has one.
function connect() {
  source?.close();
  become("connecting");
  const query = new URLSearchParams({ name });
  if (lastID) query.set("lastEventId", lastID);
  source = new EventSource(`/chat/events?${query}`);
  source.onopen = () => {
    node = ""; // until "live" tells it
    missed = 0;
    catchingUp = true;
    if (opened) reconnects++;
    become("open");
  };
  source.onerror = () => {
    if (view.dataset.state === "open") {
      lostAt = Date.now();
      catchingUp = true;
      notice("The connection was lost.");
    }
    become("retrying");
    // If the response is not a stream, such as a proxy's error page, the browser gives up
    // for good. This page tries again.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  };
  for (const [kind, handle] of Object.entries(on)) {
    source.addEventListener(kind, event => {
      events++;
      lastID = event.lastEventId || lastID;
      handle(JSON.parse(event.data));
      show();
    });
  }
}

function become(state) {
  view.dataset.state = state;
  $(".here").toggleAttribute("data-stale", state !== "open");
  show();
}

function show() {
  const state = view.dataset.state;
  $(".state", view).textContent = state === "open" && node ? `open at ${node}` : state !== "retrying" ? state : lostAt ? `away ${((Date.now() - lostAt) / 1000).toFixed(1)} s` : "connecting";
  $(".events", view).textContent = count(events);
  $(".reconnects", view).textContent = count(reconnects);
  $(".id", view).textContent = lastID || "none";
}


setInterval(show, 100);

// A browser may keep a page after the user has left it, and its connection too, in case the
// user goes back. But a user who has left must not be listed in the room.
addEventListener("pagehide", () => {
  source.close();
  lostAt ||= Date.now();
});
addEventListener("pageshow", event => { if (event.persisted) connect(); });

// ---------------------------------------------------------------------- state

const people = new Map(); // by the ids that the server gives
let you = ""; // this window's id in people
let key = ""; // lets this window ask the server to cut its connection
let catchingUp = true; // the events that come now are ones that this window missed
let missed = 0; // how many messages this window missed
let gap; // the data of the last "gap", until the next "live"

const on = {
  gap(told) { gap = told; },

  snapshot({ people: here, messages }) {
    catchingUp = false;
    people.clear();
    for (const p of here) people.set(p.id, p);
    proof.reset();
    unseen = 0;
    lines.replaceChildren();
    if (gap) notice(`Some events are missing: ${reasons[gap.reason] ?? gap.reason}. This is the room as it is now.`, "gap");
    messages.forEach(m => addMessage(m));
    showPeople();
  },

  message(m) {
    if (catchingUp) missed++;
    addMessage(m, catchingUp);
  },

  joined(p) {
    people.set(p.id, p);
    if (p.id !== you) notice(`${p.name} joined.`, "coming");
    showPeople();
  },

  left(p) {
    people.delete(p.id);
    if (p.id !== you) notice(`${p.name} left.`, "coming");
    showPeople();
  },

  started(at) {
    for (const p of people.values()) if (p.node === at.node) people.delete(p.id);
    notice(at.node ? `The node ${at.node} started.` : "The server restarted.");
    showPeople();
  },

  live(now) {
    catchingUp = false;
    ({ you = "", key = "", node = "" } = now);
    const where = node && ` at ${node}`;
    if (!opened) notice(`You joined as ${name}${where}.`, "coming");
    else if (gap) notice(`Reconnected${where} after ${took(Date.now() - lostAt)}, with a new snapshot.`);
    else if (lostAt) notice(`Resumed${where} after ${took(Date.now() - lostAt)}: ${messagesMissed()}.`, "resumed");
    else notice(`You are ${name} now.`, "coming");
    opened = true;
    lostAt = 0;
    gap = undefined;
    showPeople();
  },
};

const reasons = {
  expired: "the server no longer has all of them",
  epoch: "the server has restarted and has lost its earlier events",
  lost: "the server could not read all of them",
  ahead: "this window has events that the server does not have",
  malformed: "the server could not read this window's last id",
  slow: "this window read them too slowly",
};

const messagesMissed = () => missed === 0 ? "no missed messages" : missed === 1 ? "1 missed message" : `${count(missed)} missed messages`;

function showPeople() {
  $("#count").textContent = count(people.size);
  $("#people").replaceChildren(...[...people.values()].map(({ id, name, node }) => {
    const item = element("li", id === you ? "you" : "", name);
    const also = [node, id === you && "you"].filter(Boolean).join(", ");
    if (also) item.append(element("span", "soft", also));
    return item;
  }));
}

// proof checks that no message was lost and none came twice. Messages are numbered without
// gaps, so the numbers show it.
const proof = {
  first: 0, last: 0, lost: 0, again: 0,
  take(n) {
    this.first ||= n;
    if (this.last && n > this.last + 1) this.lost += n - this.last - 1;
    if (n <= this.last) this.again++;
    this.last = Math.max(this.last, n);
    this.show();
  },
  reset() {
    this.first = this.last = 0;
    this.show();
  },
  show() {
    const broken = this.lost || this.again;
    const verdict = broken ? `${count(this.lost)} lost, ${count(this.again)} repeated` : "none lost, none repeated";
    const which = this.first === this.last ? `Message ${count(this.last)}` : `Messages ${count(this.first)} to ${count(this.last)}`;
    $("#proof").textContent = this.last ? `${which}: ${verdict}.` : "No messages yet.";
    $("#proof").toggleAttribute("data-broken", Boolean(broken));
  },
};

// ---------------------------------------------------------------------- lines

const maxLines = 500;
const lines = $("#lines");
const newest = $("#newest");
let following = true; // the list is scrolled to its end and must stay there
let unseen = 0; // messages that came while it was not

// addMessage shows a message. A stranger may have written it, so it is only ever added as
// text.
function addMessage(m, wasMissed = false) {
  proof.take(m.number);
  const row = element("div", wasMissed ? "line missed" : "line");
  const text = element("div", "text");
  const time = element("time", "dim", clock(new Date(m.time)));
  time.dateTime = m.time;
  text.append(element("b", m.name === name ? "who you" : "who", m.name), " ", time, element("p", "", m.text));
  row.append(element("span", "at", count(m.number)), text);
  unseen++;
  addRow(row);
}

function notice(text, kind = "") { addRow(element("p", `notice ${kind}`, text)); }

function addRow(row) {
  lines.append(row);
  // While the user reads older lines, up to four times as many are kept, so that they do
  // not disappear while being read.
  while (lines.childElementCount > (following ? maxLines : 4 * maxLines)) lines.firstElementChild.remove();
  if (following) lines.scrollTop = lines.scrollHeight;
  showNewest();
}

function showNewest() {
  if (following) unseen = 0;
  newest.hidden = following;
  newest.textContent = unseen ? `${count(unseen)} new` : "To the end";
}

lines.addEventListener("scroll", () => {
  if (lines.clientWidth !== seenWidth || lines.clientHeight !== seenHeight) return; // not the user, but a resize
  following = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 24;
  showNewest();
});

newest.addEventListener("click", () => {
  following = true;
  lines.scrollTop = lines.scrollHeight;
  $("#text").focus();
  showNewest();
});

// A resize, as by a keyboard on the screen, can scroll the list too. The browser tells of that
// scroll first, and then calls the observer.
let seenWidth = 0, seenHeight = 0;
new ResizeObserver(() => {
  seenWidth = lines.clientWidth;
  seenHeight = lines.clientHeight;
  if (following) lines.scrollTop = lines.scrollHeight;
}).observe(lines);

// Safari does not shrink the window for a keyboard on the screen, but lets the keyboard
// cover the page. Then the page must be only as high as the part that is still visible. A
// user who zooms in also sees less of the page; that must change nothing.
visualViewport.addEventListener("resize", () => {
  if (visualViewport.scale > 1) return;
  const style = document.documentElement.style;
  style.removeProperty("--screen");
  if (visualViewport.height > $(".screen").offsetHeight - 1) return;
  style.setProperty("--screen", `${visualViewport.height}px`);
  if (document.activeElement === $("#text")) scrollTo(0, 0);
});

// ---------------------------------------------------------------------- forms

// post sends a form. It returns the server's error, or "" if there is none, and whether a
// later attempt may succeed.
async function post(url, fields) {
  try {
    const response = await fetch(url, { method: "POST", body: new URLSearchParams(fields) });
    return {
      error: response.ok ? "" : (await response.text()).trim() || response.statusText,
      temporary: [502, 503, 504].includes(response.status),
    };
  } catch {
    return { error: "the server does not respond", temporary: true };
  }
}

// send sends a message. If it gets no answer it cannot know whether the message is in the
// room, and sends it again with the same id: then the room has it once.
async function send(message) {
  for (const end = Date.now() + 60_000; ; await new Promise(done => setTimeout(done, 1000))) {
    const { error, temporary } = await post("/chat/messages", message);
    const again = temporary && Date.now() < end;
    complain(again ? "the message is not in the room yet; this page sends it again" : error);
    if (!again) return error;
  }
}

const complain = text => { $("#error").textContent = text; };

let unsent; // the last message that could not be sent
let sent = Promise.resolve(); // when all messages before the next one are sent

$("#say").addEventListener("submit", async event => {
  event.preventDefault();
  const field = $("#text"), text = field.value;
  field.value = ""; // before the server answers, so that a second Enter does not send it again
  complain("");
  const message = unsent?.text === text && unsent.name === name ? unsent : { id: newID(), name, text };
  const error = await (sent = sent.then(() => send(message)));
  unsent = error ? message : undefined;
  field.ariaInvalid = Boolean(error);
  if (error && !field.value) field.value = text;
});

$("#cut").addEventListener("click", async () => complain((await post("/chat/cut", { key })).error));

$("#name").value = name;
$("#rename").addEventListener("submit", event => {
  event.preventDefault();
  const wanted = $("#name").value.trim();
  if (!wanted || wanted === name) return;
  name = wanted;
  sessionStorage.setItem("name", name);
  connect();
});

// -------------------------------------------------------------------- helpers

function element(tag, className, text = "") {
  const e = document.createElement(tag);
  e.className = className;
  e.textContent = text;
  return e;
}

function newID() { return [...crypto.getRandomValues(new Uint32Array(4))].map(n => n.toString(36)).join("-"); }

function invent() {
  const pick = words => words[Math.floor(Math.random() * words.length)];
  const name = pick(["Amber", "Blue", "Coral", "Green", "Gray", "Ivory", "Olive", "Rust", "Silver", "Teal"]) + " " +
    pick(["Badger", "Crane", "Finch", "Hare", "Heron", "Lynx", "Marten", "Otter", "Owl", "Seal"]);
  sessionStorage.setItem("name", name);
  return name;
}

function count(n) { return Number(n).toLocaleString("en"); }
function clock(date) { return date.toLocaleTimeString("en-GB"); }

$("#curl").textContent = `curl -N ${location.origin}/chat/events\n` +
  `curl -d name=curl -d text=Hello ${location.origin}/chat/messages`;

connect();
