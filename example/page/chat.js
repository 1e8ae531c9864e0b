// The room: one EventSource, and a page that is nothing but the state it tells of.
//
// The server sends a "snapshot" to a newcomer, and from then on the changes:
// "message", "joined" and "left". After a lost connection it sends the changes that
// were missed; or a "gap" if it does not have them, and then a snapshot again. Each
// time, "live" marks the end of what there was to catch up with.

const $ = (selector, root = document) => root.querySelector(selector);

// ----------------------------------------------------------------- connection

const view = $("#wire");
let source;
let name = sessionStorage.getItem("name") || invent();
let lastID = "";
let events = 0, reconnects = 0;
let opened = false; // there was a connection before
let lostAt = 0; // when it was lost

// connect is called when the page opens and when the name changes. A lost connection
// is not its business: the browser opens another by itself, with Last-Event-ID.
//
// A new EventSource knows no last id. If we do, the URL tells it.
function connect() {
  source?.close();
  become("connecting");
  const query = new URLSearchParams({ name });
  if (lastID) query.set("lastEventId", lastID);
  source = new EventSource(`/chat/events?${query}`);
  source.onopen = () => {
    missed = 0;
    catchingUp = true;
    if (opened) reconnects++;
    become("open");
  };
  source.onerror = () => {
    if (view.dataset.state === "open") {
      lostAt = Date.now();
      catchingUp = true;
      notice("The connection is gone.");
    }
    become("retrying");
    // A browser gives up for good on an answer that is no stream, such as a
    // proxy's error page. We do not.
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
  $(".state", view).textContent = state !== "retrying" ? state : lostAt ? `away ${seconds()}` : "connecting";
  $(".events", view).textContent = count(events);
  $(".reconnects", view).textContent = count(reconnects);
  $(".id", view).textContent = lastID || "none";
}

const seconds = () => `${((Date.now() - lostAt) / 1000).toFixed(1)} s`;

setInterval(show, 100);

// A browser may keep a page that was left, for whoever goes back to it, and its
// connection with it. Who has left is not here.
addEventListener("pagehide", () => {
  source.close();
  lostAt ||= Date.now();
});
addEventListener("pageshow", event => { if (event.persisted) connect(); });

// ---------------------------------------------------------------------- state

const people = new Map(); // names, by the ids that the server gives
let you = 0; // our own id there
let key = ""; // by which we can have our connection cut
let catchingUp = true; // what comes now, we have missed
let missed = 0; // messages
let gap; // that we were told of, if any

const on = {
  gap(told) { gap = told; },

  snapshot({ people: here, messages }) {
    catchingUp = false;
    people.clear();
    for (const p of here) people.set(p.id, p.name);
    proof.reset();
    unseen = 0;
    lines.replaceChildren();
    if (gap) notice(`A gap: ${reasons[gap.reason] ?? gap.reason}. So this is the room as the server has it now.`, "gap");
    messages.forEach(m => addMessage(m));
    showPeople();
  },

  message(m) {
    if (catchingUp) missed++;
    addMessage(m, catchingUp);
  },

  joined(p) {
    people.set(p.id, p.name);
    if (p.id !== you) notice(`${p.name} joined.`, "coming");
    showPeople();
  },

  left(p) {
    people.delete(p.id);
    if (p.id !== you) notice(`${p.name} left.`, "coming");
    showPeople();
  },

  live(now) {
    catchingUp = false;
    ({ you, key } = now);
    if (!opened) notice(`You joined as ${name}.`, "coming");
    else if (gap) notice(`Connected again after ${seconds()}, with a new snapshot.`);
    else if (lostAt) notice(`Resumed after ${seconds()}: ${messagesMissed()}.`, "resumed");
    else notice(`You are ${name} now.`, "coming");
    opened = true;
    lostAt = 0;
    gap = undefined;
    showPeople();
  },
};

const reasons = {
  expired: "the server does not have all of what came since anymore",
  epoch: "the server was started anew, and what it knew is gone",
  ahead: "the server is not as far as this window was",
  malformed: "the server does not know where this window was",
  slow: "this window was too slow, and the server has gone on without it",
};

const messagesMissed = () => missed === 0 ? "no missed messages" : missed === 1 ? "1 missed message" : `${count(missed)} missed messages`;

function showPeople() {
  $("#count").textContent = count(people.size);
  $("#people").replaceChildren(...[...people].map(([id, name]) => {
    const item = element("li", id === you ? "you" : "", name);
    if (id === you) item.append(element("span", "soft", "you"));
    return item;
  }));
}

// Messages are numbered without holes. This is how the page knows, and does not
// merely hope, that nothing was lost and nothing came twice.
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
    $("#proof").textContent = this.last ? `${which}: ${verdict}.` : "Nothing has been said yet.";
    $("#proof").toggleAttribute("data-broken", Boolean(broken));
  },
};

// ---------------------------------------------------------------------- lines

const maxLines = 500;
const lines = $("#lines");
const newest = $("#newest");
let following = true; // the lines are scrolled to their end, and are to stay there
let unseen = 0;

// addMessage shows a message. Strangers wrote it: it goes into the page as text and
// as nothing else.
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
  // While somebody reads further up, nothing is taken away under their eyes, up
  // to a point.
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
  following = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 24;
  showNewest();
});

newest.addEventListener("click", () => {
  following = true;
  lines.scrollTop = lines.scrollHeight;
  $("#text").focus();
  showNewest();
});

new ResizeObserver(() => { if (following) lines.scrollTop = lines.scrollHeight; }).observe(lines);

// ---------------------------------------------------------------------- forms

// post sends a form, and returns what the server has against it.
async function post(url, fields) {
  try {
    const response = await fetch(url, { method: "POST", body: new URLSearchParams(fields) });
    return response.ok ? "" : (await response.text()).trim() || response.statusText;
  } catch {
    return "the server does not answer";
  }
}

const complain = text => { $("#error").textContent = text; };

$("#say").addEventListener("submit", async event => {
  event.preventDefault();
  const field = $("#text"), text = field.value;
  field.value = ""; // at once, so that an impatient Enter does not send it twice
  const error = await post("/chat/messages", { name, text });
  complain(error);
  field.ariaInvalid = Boolean(error);
  if (error && !field.value) field.value = text;
});

$("#cut").addEventListener("click", async () => complain(await post("/chat/cut", { key })));

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

function invent() {
  const pick = words => words[Math.floor(Math.random() * words.length)];
  const name = pick(["Amber", "Blue", "Coral", "Green", "Grey", "Ivory", "Olive", "Rust", "Silver", "Teal"]) + " " +
    pick(["Badger", "Crane", "Finch", "Hare", "Heron", "Lynx", "Marten", "Otter", "Owl", "Seal"]);
  sessionStorage.setItem("name", name);
  return name;
}

function count(n) { return Number(n).toLocaleString("en"); }
function clock(date) { return date.toLocaleTimeString("en-GB"); }

$("#curl").textContent = `curl -N ${location.origin}/chat/events\n` +
  `curl -d name=curl -d text=Hello ${location.origin}/chat/messages`;

connect();
