// The live page of the relay. It asks for ui/data, keeps five minutes of answers, and draws them.
// What comes from the server becomes text (textContent), never markup.

const PERIOD = 1000; // ms between an answer and the next request
const HIDDEN_PERIOD = 15000; // the same while nobody sees the page
const PATIENCE = 5000; // ms for an answer
const SPAN = 300; // seconds in a chart
const MOST_SAMPLES = 400;
const MOST_CHANNEL_CHARTS = 50;
const STORED = "relay-admin-key";

const find = (id) => document.getElementById(id);
const now = () => performance.now() / 1000;

// Numbers as text

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

function showCount(value) {
  return value < 10 ? precise.format(value) : whole.format(value);
}

function showBytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit && value < 100 ? precise.format(value) : whole.format(value)} ${units[unit]}`;
}

function showTime(seconds) {
  const [s, min, h, d] = [seconds % 60, (seconds / 60) % 60, (seconds / 3600) % 24, seconds / 86400].map(Math.floor);
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${min} min`;
  return min ? `${min} min ${s} s` : `${s} s`;
}

// Elements

function make(name, attributes = {}, ...children) {
  const svg = name === "svg" || name === "path";
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text; // what is the same stays: selections, screen readers
}

// A name that may break after its separators.
function nameParts(name) {
  return name.split(/(?<=[_/])/).flatMap((part) => [make("wbr"), part]);
}

// A line over the last SPAN seconds, from 0 to the highest value.
class Spark {
  constructor(label) {
    this.label = label;
    this.area = make("path", { class: "area" });
    this.line = make("path", { class: "line" });
    this.svg = make("svg", { role: "img", viewBox: "0 0 300 100", preserveAspectRatio: "none", "aria-label": label }, this.area, this.line);
  }

  // points: [seconds on the page's clock, value or null]; returns the highest value
  draw(points, show) {
    const start = now() - SPAN;
    const most = points.reduce((most, [, value]) => Math.max(most, value ?? 0), 0);
    let area = "";
    let line = "";
    let last = null;
    const end = () => (area += last === null ? "" : `L${last} 100Z`);
    for (const [at, value] of points) {
      const x = Math.max(0, ((at - start) / SPAN) * 300).toFixed(1);
      if (value === null) {
        end();
        last = null;
        continue;
      }
      const y = most ? (98 - (value / most) * 94).toFixed(1) : "98";
      area += last === null ? `M${x} 100L${x} ${y}` : `L${x} ${y}`;
      line += `${last === null ? "M" : "L"}${x} ${y}`;
      last = x;
    }
    end();
    this.area.setAttribute("d", area);
    this.line.setAttribute("d", line);
    const newest = points.length ? points[points.length - 1][1] : null;
    const told = newest === null ? "not known" : show(newest);
    this.svg.setAttribute("aria-label", `${this.label}, last 5 minutes: now ${told}, at most ${show(most)}`);
    return most;
  }
}

// Rows by name, which stay where they are as long as the order does; cells: texts, or elements that stay the same.
class Table {
  constructor(id) {
    this.table = find(id);
    this.body = this.table.tBodies[0];
    this.rows = new Map();
  }

  fill(entries) {
    this.table.hidden = entries.length === 0;
    const names = new Set(entries.map(([name]) => name));
    for (const [name, row] of this.rows) {
      if (names.has(name)) continue;
      row.remove();
      this.rows.delete(name);
    }
    entries.forEach(([name, cells], position) => {
      let row = this.rows.get(name);
      if (!row) {
        const made = cells.map((cell) => (typeof cell === "string" ? make("td", { class: "number" }) : make("td", {}, cell)));
        row = make("tr", {}, make("th", { scope: "row" }, ...nameParts(name)), ...made);
        this.rows.set(name, row);
      }
      cells.forEach((cell, index) => {
        if (typeof cell === "string") write(row.cells[index + 1], cell);
      });
      if (this.body.rows[position] !== row) this.body.insertBefore(row, this.body.rows[position] ?? null);
    });
  }
}

// What is kept: one sample per answer, and one with `data` null where the server was not there

const samples = [];

function keep(data) {
  const sample = { at: now(), data, rates: null };
  const before = samples[samples.length - 1]?.data;
  if (before && data && data.start_time !== before.start_time) {
    samples.push({ at: sample.at, data: null, rates: null }); // another run of the server, which counts from 0
  } else if (before && data) {
    const seconds = data.uptime - before.uptime;
    if (seconds === 0) return; // the server's answer to somebody else, seen before
    sample.rates = CHARTS.map((chart) => (chart.rate ? (chart.rate(data) - chart.rate(before)) / seconds : null));
  }
  samples.push(sample);
  while (samples.length > MOST_SAMPLES || samples[0].at < sample.at - SPAN) samples.shift();
}

function sum(counts) {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

const perSecond = (show) => (value) => `${show(value)}/s`;
const CHARTS = [
  { title: "Connections", value: (data) => data.connections, show: showCount },
  { title: "Messages relayed", rate: (data) => data.totals.messages_relayed, show: perSecond(showCount) },
  { title: "Bytes received", rate: (data) => data.totals.bytes_in, show: perSecond(showBytes) },
  { title: "Bytes sent", rate: (data) => data.totals.bytes_out, show: perSecond(showBytes) },
  { title: "Waiting for slow clients", value: (data) => data.backlog, show: showBytes },
  { title: "Refusals, drops, failures", rate: (data) => sum(data.counts), show: perSecond(showCount) },
];

for (const chart of CHARTS) {
  chart.spark = new Spark(chart.title);
  chart.now = make("p", { class: "value" }, "–");
  chart.most = make("p", { class: "most" });
  find("charts").append(make("li", {}, make("h3", {}, chart.title), chart.now, chart.spark.svg, chart.most));
}

const tables = { channels: new Table("channels"), reasons: new Table("reasons"), keys: new Table("keys") };
const channelSparks = new Map();

// Drawing

function drawCharts() {
  CHARTS.forEach((chart, index) => {
    const points = samples.map(({ at, data, rates }) => [at, chart.rate ? rates?.[index] ?? null : data && chart.value(data)]);
    const newest = points.length ? points[points.length - 1][1] : null;
    const most = chart.spark.draw(points, chart.show);
    write(chart.now, newest === null ? "–" : chart.show(newest));
    write(chart.most, `at most ${chart.show(most)}`);
  });
}

function drawChannels(channels) {
  const entries = Object.entries(channels).sort(([a, x], [b, y]) => y.peak - x.peak || (a < b ? -1 : 1));
  tables.channels.fill(
    entries.map(([name, { active, peak }]) => {
      if (!channelSparks.has(name)) channelSparks.set(name, new Spark(`Connections of channel ${name}`));
      return [name, [channelSparks.get(name).svg, showCount(active), showCount(peak)]];
    }),
  );
  for (const name of channelSparks.keys()) if (!Object.hasOwn(channels, name)) channelSparks.delete(name);
  for (const [name] of entries.slice(0, MOST_CHANNEL_CHARTS)) {
    const points = samples.map(({ at, data }) => [at, data && (data.channels[name]?.active ?? 0)]);
    channelSparks.get(name).draw(points, showCount);
  }
  find("channels").nextElementSibling.hidden = entries.length > 0;
}

function drawReasons(data) {
  const run = samples.slice(samples.findLastIndex((sample) => sample.data === null) + 1);
  const before = run.findLast((sample) => sample.data.uptime <= data.uptime - 60) ?? run[0];
  const recent = (name) => data.counts[name] - (before?.data.counts[name] ?? 0);
  const entries = Object.entries(data.counts).sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  tables.reasons.fill(entries.map(([name, count]) => [name, [showCount(recent(name)), showCount(count)]]));
  find("reasons").nextElementSibling.hidden = entries.length > 0;
}

function drawKeys(keys) {
  const rows = (keys ?? []).map((key) => [key.key, [showCount(key.connections), showBytes(key.bytes_in), showBytes(key.bytes_out)]]);
  tables.keys.fill(rows);
  find("keys-note").hidden = rows.length === 0;
  find("no-keys").hidden = rows.length > 0;
  write(find("no-keys"), keys === null ? "This relay asks for no keys." : "No key has had traffic in its running window.");
}

function drawTotals(data) {
  const blobs = data.blobs === null ? "not known" : data.blobs && `${showCount(data.blobs.entries)} (${showBytes(data.blobs.bytes)})`;
  const shown = [
    ["Connections", showCount(data.total_connections)],
    ["Messages relayed", showCount(data.totals.messages_relayed)],
    ["Bytes received", showBytes(data.totals.bytes_in)],
    ["Bytes sent", showBytes(data.totals.bytes_out)],
    ["Watches now", showCount(data.watches)],
    ["Blobs now", blobs ?? "no store"],
  ];
  const list = find("totals");
  if (!list.children.length) list.append(...shown.map(([title]) => make("div", {}, make("dt", {}, title), make("dd"))));
  shown.forEach(([, text], index) => write(list.children[index].lastChild, text));
}

function draw(data) {
  drawCharts();
  drawChannels(data.channels);
  drawReasons(data);
  drawKeys(data.keys);
  drawTotals(data);
  write(find("uptime"), `up for ${showTime(data.uptime)}`);
  find("uptime").title = `since ${new Date(data.start_time * 1000).toLocaleString("en-GB")}`;
  document.title = `${whole.format(data.connections)} connected · Relay`;
}

// Asking

let key = null;
let locked = false; // until somebody gives a key, nothing is asked
let timer = null;
let asking = false;
let lostSince = null;

function remember(value) {
  key = value;
  try {
    if (value === null) sessionStorage.removeItem(STORED);
    else sessionStorage.setItem(STORED, value);
  } catch {
    // no storage here: the key is kept until the page is left
  }
}

function recall() {
  try {
    return sessionStorage.getItem(STORED);
  } catch {
    return null;
  }
}

function say(state, text) {
  const status = find("status");
  status.dataset.state = state;
  write(status, text);
  document.body.classList.toggle("lost", state === "lost");
}

function askForKey(refusal) {
  clearTimeout(timer);
  remember(null);
  locked = true;
  samples.length = 0;
  lostSince = null;
  find("shown").hidden = find("forget").hidden = true;
  find("ask").hidden = false;
  find("refused").hidden = !refusal;
  write(find("refused"), refusal);
  write(find("uptime"), "");
  say("wait", "Locked");
  document.title = "Relay";
  find("key").focus();
}

function show(data) {
  keep(data);
  lostSince = null;
  find("ask").hidden = true;
  find("shown").hidden = false;
  find("forget").hidden = key === null;
  say("live", "Live");
  draw(data);
}

function lose(reason) {
  lostSince ??= new Date();
  if (samples.length && samples[samples.length - 1].data) keep(null);
  say("lost", `${reason} since ${lostSince.toLocaleTimeString("en-GB")}. Trying again.`);
  if (samples.length) write(find("uptime"), "The tables show the last numbers.");
  document.title = "No connection · Relay";
  drawCharts();
}

// The status and the data of an answer; status 0: there was none.
async function ask(used) {
  const patience = new AbortController();
  const limit = setTimeout(() => patience.abort(), PATIENCE);
  const headers = used === null ? {} : { Authorization: `Bearer ${used}` };
  try {
    const answer = await fetch("ui/data", { headers, cache: "no-store", signal: patience.signal });
    return [answer.status, answer.ok ? await answer.json() : null];
  } catch {
    return [0, null];
  } finally {
    clearTimeout(limit);
  }
}

function plan() {
  clearTimeout(timer);
  timer = setTimeout(look, document.hidden ? HIDDEN_PERIOD : PERIOD);
}

async function look() {
  clearTimeout(timer);
  if (asking) return;
  asking = true;
  const used = key;
  const [status, data] = await ask(used);
  asking = false;
  if (locked) return;
  plan();
  if (used !== key) look(); // another key was given meanwhile
  else if (data) show(data);
  else if (status === 403) askForKey(used === null ? "" : "The server does not accept this key.");
  else if (status === 404) lose("This page is turned off at the server");
  else lose(status ? `The server answers with error ${status}` : "No connection to the server");
}

find("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = find("key").value.trim();
  find("key").value = "";
  if (!/^[\x21-\x7e]+$/.test(given)) return askForKey("A key has letters, digits, _ and - only.");
  locked = false;
  remember(given);
  look();
});

find("forget").addEventListener("click", () => {
  remember(null);
  location.reload(); // what was shown is forgotten, too
});

document.addEventListener("visibilitychange", () => {
  if (locked) return;
  if (document.hidden) plan();
  else look();
});

key = recall();
look();
