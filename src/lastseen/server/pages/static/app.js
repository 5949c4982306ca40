// Keeps a page current: fetches what changed now and then and morphs it in, so that focus, scroll and selection stay
// where they are. Without this script every link and form still works. The page says in `data-` attributes what its
// address is, where its changing part comes from, and how often to ask.
const live = document.getElementById("live");
const connection = document.getElementById("connection");
const { page: PAGE, rows: ROWS, period: PERIOD } = live.dataset;
let etag = live.dataset.etag;
let clockOffset = Number(live.dataset.now) * 1000 - Date.now();
let asked = 0;

function say(state, words) {
  connection.hidden = false;
  connection.className = `live ${state}`;
  connection.lastElementChild.textContent = words;
}

function relative(moment) {
  const seconds = Math.max(0, Math.floor((Date.now() + clockOffset - moment) / 1000));
  if (seconds < 5) return "just now";
  const units = [["s", 1, 60], ["min", 60, 3600], ["h", 3600, 86400], ["d", 86400, 2592000], ["mo", 2592000, 31536000]];
  const [unit, size] = units.find(([, , until]) => seconds < until) ?? ["y", 31536000];
  return `${Math.floor(seconds / size)} ${unit} ago`;
}

function tick() {
  for (const time of live.querySelectorAll("time")) {
    const words = relative(Date.parse(time.dateTime));
    if (time.textContent !== words && !selecting(time)) time.textContent = words;
  }
}

function selecting(within) {
  const selection = getSelection();
  return !selection.isCollapsed && selection.containsNode(within, true);
}

async function refresh(force = false) {
  const table = document.querySelector("tbody");
  if (!force && (document.hidden || (table && selecting(table)))) return;
  const turn = ++asked;
  try {
    const headers = force ? {} : { "If-None-Match": etag };
    const answer = await fetch(ROWS + location.search, { headers, cache: "no-store" });
    if (turn !== asked) return; // a later question was asked meanwhile
    if (answer.status === 200) show(await answer.text(), answer.headers);
    else if (answer.status === 400 || answer.status === 401) location.reload(); // 401: signed out meanwhile
    else if (answer.status !== 304) throw new Error(answer.statusText);
    say("on", "Live");
  } catch {
    if (turn === asked) say("off", "Reconnecting…");
  }
}

function show(html, headers) {
  etag = headers.get("etag");
  Idiomorph.morph(live, html, {
    morphStyle: "innerHTML",
    ignoreActiveValue: true,
    callbacks: {
      beforeNodeMorphed(before, after) {
        if (before.id !== "chart" || after.id !== "chart") return true;
        Object.assign(before.dataset, after.dataset); // its inside belongs to the chart
        before.setAttribute("aria-label", after.getAttribute("aria-label"));
        return false;
      },
    },
  });
  tick();
  draw();
}

// Views: links and the search change the address and what is shown, not the page.

function go(address) {
  history.pushState(null, "", address);
  return refresh(true);
}

live.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  if (!link || link.origin !== location.origin || link.pathname !== PAGE || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(link.href);
});

let typing;
live.addEventListener("input", (event) => {
  if (event.target.id !== "search") return;
  clearTimeout(typing);
  typing = setTimeout(search, 150, event.target.form);
});

live.addEventListener("change", (event) => {
  if ("go" in event.target.dataset) event.target.form.requestSubmit();
});

live.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  search(event.target);
});

function search(form) {
  const fields = [...new FormData(form)].filter(([, value]) => value);
  const query = new URLSearchParams(fields).toString();
  history.replaceState(null, "", query ? `${PAGE}?${query}` : PAGE);
  refresh(true);
}

// The chart: bars, and over them a line for the period before where there is one.

const AMOUNTS = 46; // the width of the axis at the left, in pixels
const HALF_LABEL = 34;
// Between bars of a day or more an hour of the day says nothing.
const DAYS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 30, 60, 90, 120, 180, 365, 730, 1825, 3650].map((days) => days * 86400);

let chart;
let drawn;
let shape;

function draw() {
  const box = document.getElementById("chart");
  if (!box) return;
  const numbers = (text) => (text ? text.split(",").map(Number) : []);
  const values = numbers(box.dataset.values);
  const before = numbers(box.dataset.before);
  const times = box.dataset.times ? numbers(box.dataset.times) : values.map((_, index) => Number(box.dataset.start) + index * 3600);
  const data = before.length ? [times, values, before] : [times, values];
  const kind = [data.length, box.dataset.unit, box.dataset.zone, box.dataset.bucket].join();
  if (chart && drawn === box && shape === kind) return void chart.setData(data);
  chart?.destroy();
  [drawn, shape] = [box, kind];
  box.classList.add("drawn");
  chart = new uPlot(options(box, times, before.length), data, box);
  new ResizeObserver(() => chart && drawn === box && chart.setSize(size(box))).observe(box);
}

function size(box) {
  return { width: box.clientWidth, height: box.clientHeight };
}

function options(box, times, compared) {
  const color = (name) => getComputedStyle(box).getPropertyValue(name);
  const axis = { stroke: color("--soft"), font: "11px system-ui", ticks: { show: false } };
  const grid = { stroke: color("--line"), width: 1 };
  const zone = box.dataset.zone || "UTC";
  const half = times.length > 1 ? (times.at(-1) - times[0]) / (times.length - 1) / 2 : 1800;
  const counts = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000, 5000000, 10000000];
  const bars = { fill: color("--bar"), width: 0, paths: uPlot.paths.bars({ size: [0.8, 14] }), points: { show: false } };
  const line = { stroke: color("--soft"), width: 1.5, dash: [4, 4], points: { show: false } };
  return {
    ...size(box),
    legend: { show: false },
    padding: [6, (plot) => overhang(plot), 0, 0],
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), zone === "UTC" ? "Etc/UTC" : zone),
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    scales: { x: { range: (_, from, to) => [from - half, to + half] }, y: { range: (_, __, most) => [0, Math.max(4, Math.ceil(most * 1.1))] } },
    axes: [
      { ...axis, size: 24, space: 70, ...(box.dataset.bucket !== "hour" && box.dataset.times && { incrs: DAYS }), grid: { show: false }, values: (plot, marks) => ((plot.lastMark = marks.at(-1)), marks.map((mark) => day(mark, zone))) },
      { ...axis, size: AMOUNTS, space: 34, grid, incrs: counts, values: (_, marks) => marks.map((mark) => amount(mark, box.dataset.unit)) },
    ],
    series: compared ? [{}, bars, line] : [{}, bars],
    hooks: { ready: [addTip], setCursor: [moveTip] },
  };
}

// Room at the right for the half of the last label that would stand out of the chart, where few bars are wide apart.
function overhang(plot) {
  const { min, max } = plot.scales.x;
  if (plot.lastMark === undefined || !(max > min)) return 4;
  const place = (plot.lastMark - min) / (max - min);
  return Math.max(4, (HALF_LABEL - (1 - place) * (plot.width - AMOUNTS)) / place);
}

function amount(value, unit) {
  if (unit === "%") return `${value}%`;
  if (unit === "s") return value < 60 ? `${Math.round(value)}s` : `${Math.floor(value / 60)}m ${String(Math.round(value % 60)).padStart(2, "0")}s`;
  return value.toLocaleString("en");
}

const formats = new Map();

function written(seconds, zone, parts) {
  const key = zone + JSON.stringify(parts);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...parts }));
  return formats.get(key).format(seconds * 1000);
}

function day(seconds, zone) {
  const time = written(seconds, zone, { hour: "2-digit", minute: "2-digit" });
  return time === "00:00" ? written(seconds, zone, { weekday: "short", day: "2-digit", month: "short" }).replace(",", "") : time;
}

function addTip(plot) {
  plot.tip = plot.over.appendChild(document.createElement("div"));
  plot.tip.className = "tip";
}

function moveTip(plot) {
  const { idx, left } = plot.cursor;
  if (!plot.tip) return;
  const inside = idx != null && left >= 0;
  plot.tip.textContent = inside ? tip(plot, idx) : "";
  if (inside) plot.tip.style.left = `${Math.min(left + 10, plot.over.clientWidth - plot.tip.offsetWidth)}px`;
}

function tip(plot, index) {
  const { unit, zone = "UTC", bucket = "hour" } = drawn.dataset;
  const parts = { weekday: "short", day: "2-digit", month: "short", ...(bucket === "hour" && { hour: "2-digit", minute: "2-digit" }) };
  const before = plot.data[2] ? `, before ${amount(plot.data[2][index], unit)}` : "";
  return `${amount(plot.data[1][index], unit)}${before} · ${written(plot.data[0][index], zone, parts)}`;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  drawn = undefined;
  draw();
});

document.documentElement.classList.add("scripted");
document.addEventListener("visibilitychange", () => refresh());
addEventListener("popstate", () => refresh(true));
setInterval(tick, 1000);
setInterval(refresh, PERIOD);
say("on", "Live");
tick();
draw();
