// The devices of the dashboard: which there are, what they report, what they should, commands for them.

/** Builds on what the page has; returns what shows the newest. */
export function devices({ $, el, api, act, action, table, shownState, long, when, onSubmit }) {
  const LIMIT = 100;
  const place = (id, ...rest) => ["/devices", ...[id, ...rest].map(encodeURIComponent)].join("/");
  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  /** What a person wrote: JSON, or else a text. */
  const read = (written) => {
    try {
      return JSON.parse(written);
    } catch {
      return written;
    }
  };
  let chosen = null;
  let cursor = null;
  let drawn = null;

  /** The address says which one is shown: it can be kept. */
  const choose = (id) => {
    history.replaceState(null, "", id ? `#device/${encodeURIComponent(id)}` : "#devices");
    chosen = id;
    drawn = null;
    act(null, () => $("#device").scrollIntoView({ block: "nearest" }));
  };
  if (location.hash.startsWith("#device/")) chosen = decodeURIComponent(location.hash.slice(8));

  const link = (id) => ({
    key: id,
    node: () => {
      const button = el("button", { type: "button", textContent: id });
      button.addEventListener("click", () => choose(id));
      return button;
    },
  });

  async function list() {
    const wanted = [...new FormData($("#which"))].filter(([, value]) => value);
    const page = await api("GET", `/devices?${new URLSearchParams([...wanted, ["limit", LIMIT], ...(cursor ? [["cursor", cursor]] : [])])}`);
    table("devices", ["Device", "Presence", "Since", "Last seen", "Type", "Name", "Labels", "Ingresses"], page.items.map((device) => [
      link(device.id), shownState(device.presence, device.presence === "online"), when(device.since), when(device.last_seen),
      device.type ?? "", long(device.name), long(Object.entries(device.labels).map(([key, value]) => `${key}:${value}`).join(", ")),
      device.ingresses.join(", "),
    ]));
    $("#devices-first").hidden = !cursor;
    $("#devices-more").hidden = !page.next;
    $("#devices-more").dataset.cursor = page.next ?? "";
  }

  function desire(id, name, wanted) {
    const value = el("input", { value: wanted ? text(wanted.value) : "", ariaLabel: `What ${name} should be`, size: 10, autocomplete: "off" });
    const set = action("Set", async () => {
      await api("PUT", place(id, "desired", name), { value: read(value.value) });
      return `${name} of ${id} should be ${value.value}`;
    });
    const leave = wanted && action("Leave", () => api("DELETE", place(id, "desired", name)));
    return el("span", {}, value, " ", set, " ", leave);
  }

  function resources(device) {
    const names = [...new Set([...Object.keys(device.resources), ...Object.keys(device.desired)])].sort();
    table("device-resources", ["Resource", "Value", "Reported", "Should be", ""], names.map((name) => {
      const [is, wanted] = [device.resources[name], device.desired[name]];
      return [
        long(name), long(is ? text(is.value) : ""), is ? when(is.time) : "",
        wanted ? shownState(wanted.reached ? "reached" : "not reached yet", wanted.reached) : "",
        { key: JSON.stringify(wanted ?? null), node: () => desire(device.id, name, wanted) },
      ];
    }));
  }

  function commands(id, items) {
    const answer = (command) => {
      const of = command.answer ?? {};
      return "payload_json" in of ? text(of.payload_json) : of.payload ?? of.payload_base64 ?? command.cause ?? "";
    };
    table("device-commands", ["Command", "State", "Changed", "Answer or cause", ""], items.map((command) => [
      long(command.name), shownState(command.state, !["failed", "expired"].includes(command.state)), when(command.changed), long(answer(command)),
      command.state === "queued"
        ? { key: command.id, node: () => action("Cancel", () => api("DELETE", place(id, "commands", command.id)).then(() => "cancelled")) }
        : "",
    ]));
  }

  async function show() {
    $("#device").hidden = !chosen;
    if (!chosen) return;
    const id = chosen;
    const asked = Promise.all([api("GET", place(id)), api("GET", `${place(id, "commands")}?limit=10`)]);
    const [device, given] = await asked.catch((error) => {
      chosen = null;
      throw error;
    });
    if (id !== chosen) return;
    const reached = device.reached_by ? `commands reach it through ${device.reached_by}` : "commands wait until it comes back";
    $("#device-title").textContent = device.name ? `${device.name} (${device.id})` : device.id;
    $("#device-state").replaceChildren(shownState(device.presence, device.presence === "online").node(), ` since ${when(device.since)}; ${reached}`);
    // A form is not written over while somebody writes in it.
    if (drawn !== id) {
      drawn = id;
      const form = $("#name-device");
      form.elements.namedItem("name").value = device.name ?? "";
      form.elements.namedItem("type").value = device.type ?? "";
      form.elements.namedItem("labels").value = Object.entries(device.labels).map(([key, value]) => `${key}=${value}`).join(", ");
    }
    if (!$("#device-resources").contains(document.activeElement)) resources(device);
    commands(id, given.items);
  }

  onSubmit("#which", () => {
    cursor = null;
  });
  $("#devices-more").addEventListener("click", (event) => act(event.target, () => {
    cursor = event.target.dataset.cursor;
  }));
  $("#devices-first").addEventListener("click", (event) => act(event.target, () => {
    cursor = null;
  }));
  onSubmit("#name-device", async (form) => {
    const labels = form.get("labels").split(",").map((label) => label.trim()).filter(Boolean).map((label) => label.split(/=(.*)/s).slice(0, 2));
    if (labels.some(([key, value]) => !key || value === undefined)) throw new Error("labels are key=value, with commas between");
    const given = Object.fromEntries(["name", "type"].filter((key) => form.get(key)).map((key) => [key, form.get(key)]));
    await api("PUT", place(chosen), { ...given, labels: Object.fromEntries(labels) });
    drawn = null;
    return `${chosen} is written down`;
  });
  onSubmit("#command", async (form) => {
    const mode = form.get("mode");
    const payload = form.get("payload");
    const command = await api("POST", place(chosen, "commands"), { name: form.get("name"), mode, ...(payload && { payload: read(payload) }) });
    return mode === "query" ? `${chosen} has answered` : `${command.name} is ${command.state}`;
  });
  $("#forget").addEventListener("click", (event) => act(event.target, async () => {
    const id = chosen;
    await api("DELETE", place(id));
    chosen = null;
    return `${id} is forgotten`;
  }));
  $("#device-close").addEventListener("click", () => choose(null));

  return async () => {
    await list();
    await show();
  };
}
