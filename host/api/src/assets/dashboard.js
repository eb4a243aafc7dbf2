// Asks the API of the host that served this page; the session's cookie goes along by itself.

import { devices } from "./devices.js";

const $ = (selector) => document.querySelector(selector);
const REFRESH_MS = 2000;
const SEEN_MAX = 200;

/** An element with properties and children. Text is always text: nothing is parsed as HTML. */
function el(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The answer's JSON; problems are thrown with what the host says of them. */
async function api(method, path, body, headers = {}) {
  const json = body !== undefined && !(body instanceof Blob);
  if (json) headers["content-type"] = "application/json";
  const response = await fetch(`/v1${path}`, { method, headers, body: json ? JSON.stringify(body) : body });
  if (response.status === 401) signedIn(false);
  const answer = response.status === 204 ? null : await response.json();
  if (!response.ok) throw new Error(answer.detail);
  return answer;
}

function signedIn(yes) {
  $("#signed-in").hidden = !yes;
  $("#sign-in").hidden = yes;
}

function notice(text, good = false) {
  $("#notice").hidden = !text;
  $("#notice").classList.toggle("good", good);
  $("#notice").textContent = text;
}

/** Runs what a button or form asks for, and says how it went. */
async function act(button, work) {
  if (button) button.disabled = true;
  try {
    notice((await work()) ?? "", true);
    await refresh();
  } catch (error) {
    notice(error.message);
  } finally {
    if (button) button.disabled = false;
  }
}

const action = (label, work) => {
  const button = el("button", { type: "button", textContent: label });
  button.addEventListener("click", () => act(button, work));
  return button;
};

const count = (number) => number.toLocaleString();
const bytes = (number) => {
  const units = ["B", "KiB", "MiB", "GiB"];
  const step = Math.min(3, Math.floor(Math.log2(Math.max(1, number)) / 10));
  return `${(number / 1024 ** step).toFixed(step ? 1 : 0)} ${units[step]}`;
};
const time = (text) => new Date(text).toLocaleTimeString();
const when = (text) => new Date(text).toLocaleString();
const state = (text, good) => el("span", { className: good ? "good" : "bad", textContent: text });
const failure = (error) => (error ? `${time(error.time)} ${error.text}` : "");

/** A table is only touched when it shows something else: a focused button stays focused. */
function table(section, heads, rows) {
  const place = $(`#${section} table`);
  const key = JSON.stringify(rows.map((row) => row.map((cell) => cell?.key ?? cell)));
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  const kind = (cell) => (typeof cell === "number" ? "number" : cell?.long !== undefined ? "text" : "");
  const shown = (cell) => (typeof cell === "number" ? count(cell) : cell?.node ? cell.node() : (cell?.long ?? cell));
  const numbers = heads.map((_, column) => rows.some((row) => typeof row[column] === "number"));
  const head = heads.map((text, i) => el("th", { scope: "col", textContent: text, className: numbers[i] ? "number" : "" }));
  const body = rows.map((row) => el("tr", {}, ...row.map((cell) => el("td", { className: kind(cell) }, shown(cell)))));
  const none = el("tr", {}, el("td", { className: "faint", textContent: "none yet" }));
  place.replaceChildren(el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...(body.length ? body : [none])));
}

const shownState = (text, good) => ({ key: text, node: () => state(text, good) });
const long = (text) => ({ key: text, long: text ?? "" });

const span = (seconds) => {
  const [unit, size] = seconds < 120 ? ["s", 1] : seconds < 7200 ? ["min", 60] : seconds < 172800 ? ["h", 3600] : ["days", 86400];
  return `${Math.floor(seconds / size)} ${unit}`;
};

// How many dead letters there were when they were last listed: the list follows, but not under a reader's hands.
let listed = null;

function showFigures(status) {
  const { store } = status;
  if (store.dead_letters !== listed && !document.querySelector("#letters details[open]")) {
    listed = store.dead_letters;
    letters();
  }
  const figures = {
    "Readings": count(store.readings),
    "In the journal": count(store.journal_readings),
    "Waiting": count(store.waiting),
    "In the outbox": count(store.outbox),
    "Dead letters": count(store.dead_letters),
    "Last commit": `${(store.last_commit_us / 1000).toFixed(1)} ms`,
    "Store": bytes(store.file_bytes),
    "Devices online": `${count(status.devices.online)} of ${count(status.devices.known)}`,
    "Connections": count(status.connections),
  };
  const shown = Object.entries(figures).map(([name, figure]) =>
    el("div", {}, el("dt", { textContent: name }), el("dd", { textContent: figure })));
  $("#figures").replaceChildren(...shown);
  const text = status.ready ? `ready, version ${status.version}, up ${span(status.uptime_seconds)}` : status.problems.join("; ");
  $("#state").replaceChildren(state(text, status.ready));
}

function showRoutes(routes) {
  table("routes", ["Route", "Version", "Handled", "Outputs", "Failed", "Dead", "Busy for", ""], routes.map((route) => [
    route.name, route.version ? `v${route.version}` : "", route.handled, route.outputs, route.failed_attempts,
    route.dead_letters, `${count(route.busy_ms)} ms`, long(route.broken),
  ]));
}

function showIngresses(ingresses) {
  table("ingresses", ["Ingress", "State", "Address", "Accepted", "Sessions", "Last error"], ingresses.map((ingress) => [
    ingress.name, shownState(ingress.state, ingress.state === "running"), ingress.address ?? "", ingress.accepted,
    ingress.sessions, long(ingress.broken ?? failure(ingress.last_error)),
  ]));
}

function showSinks(sinks) {
  table("sinks", ["Sink", "Circuit", "Accepted", "Given up", "Last error", ""], sinks.map((sink) => [
    sink.name, shownState(sink.circuit, sink.circuit === "closed"), sink.accepted, sink.given_up,
    long(sink.broken ?? failure(sink.last_error)),
    { key: sink.name, node: () => action("Retry now", () => api("POST", "/outbox/retry", { target: `sink/${sink.name}` })) },
  ]));
}

function versions(module) {
  const choice = el("select", { ariaLabel: `Version of ${module.name}` });
  for (const version of [...module.versions].reverse()) {
    const text = `v${version.version}, ${when(version.uploaded)}, ${bytes(version.size)}`;
    choice.append(el("option", { value: version.version, textContent: text, selected: version.version === module.active }));
  }
  const activate = action("Activate", async () => {
    await api("POST", `/modules/${module.name}/activate`, { version: Number(choice.value) });
    return `${module.name} is now v${choice.value}`;
  });
  return el("span", {}, choice, " ", module.declared ? "declared in the file" : activate);
}

function showModules(modules) {
  table("modules", ["Module", "Active", "Routes", "Versions"], modules.map((module) => [
    module.name, `v${module.active}`, long(module.routes.join(", ")),
    { key: [module.active, module.versions.at(-1)?.version, module.declared], node: () => versions(module) },
  ]));
}

async function refresh() {
  try {
    const status = await api("GET", "/status");
    if ($("#signed-in").hidden) {
      signedIn(true);
      watch();
      letters();
    }
    showFigures(status);
    showRoutes(status.routes);
    showIngresses(status.ingresses);
    showSinks(status.sinks);
    showModules(status.modules);
    await showDevices();
  } catch (error) {
    $("#state").replaceChildren(state(error.message, false));
  }
}

let tail = null;

function watch() {
  tail?.close();
  const asked = new FormData($("#watch"));
  const query = new URLSearchParams([...asked].filter(([, value]) => value));
  tail = new EventSource(`/v1/tail?${query}`);
  tail.addEventListener("reading", (event) => see("reading", JSON.parse(event.data)));
  tail.addEventListener("output", (event) => see("output", JSON.parse(event.data)));
  tail.addEventListener("dead-letter", (event) => see("dead letter", JSON.parse(event.data)));
  tail.addEventListener("missed", (event) => seen("missed", `${JSON.parse(event.data).count} more passed by unseen`));
}

const payload = (of) => ("payload_json" in of ? JSON.stringify(of.payload_json) : of.payload ?? `base64 ${of.payload_base64}`);

function see(kind, item) {
  const about = item.message ?? item.reading ?? item.delivery?.message ?? item;
  const towards = item.target ? ` → ${item.target}` : item.ingress ? ` ← ${item.ingress}` : "";
  const cause = item.cause ? ` (${item.cause})` : "";
  seen(kind, `${time(item.time)} ${about.topic}${towards}${cause} `, payload(about).slice(0, 400));
}

function seen(kind, text, data = "") {
  const label = el("span", { className: kind === "dead letter" || kind === "missed" ? "bad" : "faint", textContent: `${kind} ` });
  $("#seen").prepend(el("li", {}, label, text, el("code", { textContent: data })));
  while ($("#seen").children.length > SEEN_MAX) $("#seen").lastChild.remove();
}

let next = null;

async function letters(more = false) {
  const page = await api("GET", `/dead-letters?limit=50${more && next ? `&cursor=${next}` : ""}`);
  next = page.next;
  $("#more").hidden = !next;
  if (!more) $("#letters").replaceChildren();
  $("#letters").append(...page.items.map(letter));
  if (!$("#letters").children.length) $("#letters").append(el("li", { className: "faint", textContent: "none" }));
}

function letter(item) {
  const about = item.reading ?? item.delivery.message;
  const place = item.target ? `${item.route} → ${item.target}` : item.route;
  const title = `${when(item.time)} · ${place} · ${about.topic} · ${item.attempts} attempts · ${item.cause}`;
  const then = (method, path) => async () => {
    await api(method, `/dead-letters/${item.id}${path}`);
    shown.remove();
  };
  const buttons = el("p", {}, action("Redrive", then("POST", "/redrive")), " ", action("Discard", then("DELETE", "")));
  const details = el("details", {}, el("summary", { textContent: title }), el("pre", { textContent: JSON.stringify(item, null, 2) }), buttons);
  const shown = el("li", {}, details);
  return shown;
}

function onSubmit(selector, work) {
  $(selector).addEventListener("submit", (event) => {
    event.preventDefault();
    act(event.submitter, () => work(new FormData(event.target), event.target));
  });
}

onSubmit("#sign-in", (form) => {
  location.assign(`/?token=${encodeURIComponent(form.get("token").trim())}`);
});

onSubmit("#watch", () => watch());

onSubmit("#upload", async (form, element) => {
  const file = form.get("file");
  const script = form.get("script").trim() ? form.get("script") : file.name.endsWith(".js") ? file : null;
  if (!script && !file.size) throw new Error("choose a component, or write a script");
  const type = script ? "text/javascript" : "application/wasm";
  const headers = { "content-type": type, "sandbar-activate": String(form.has("activate")) };
  const made = await api("PUT", `/modules/${form.get("name")}`, script ?? file, headers);
  element.reset();
  return `${made.name} v${made.version}, ${bytes(made.size)}${made.active ? ", in use" : ""}`;
});

onSubmit("#reading", async (form) => {
  const given = Object.fromEntries([...form].filter(([name, value]) => value || name === "payload"));
  const { id } = await api("POST", "/readings", given);
  $("#sent").textContent = `accepted as ${id}`;
});

const drop = $("#drop");
drop.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  drop.querySelector("input").files = event.dataTransfer.files;
  const name = $("#upload [name=name]");
  name.value ||= (event.dataTransfer.files[0]?.name ?? "").replace(/\.(wasm|js)$/, "").toLowerCase().replace(/[^a-z0-9_-]/g, "-");
});

$("#pause").addEventListener("click", () => tail?.close());
$("#refresh").addEventListener("click", (event) => act(event.target, () => letters()));
$("#more").addEventListener("click", (event) => act(event.target, () => letters(true)));
$("#redrive").addEventListener("click", (event) => act(event.target, async () => {
  const { redriven } = await api("POST", "/dead-letters/redrive", {});
  await letters();
  return `${redriven} redriven`;
}));

const showDevices = devices({ $, el, api, act, action, table, shownState, long, when, onSubmit });

await refresh();
setInterval(() => document.hidden || refresh(), REFRESH_MS);
