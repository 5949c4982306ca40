// Keeps the page current: fetches what changed every two seconds and morphs it in, so that focus, scroll and
// selection stay where they are. Without this script every link and the search still work.
const live = document.getElementById("live");
const connection = document.getElementById("connection");
const PERIOD = 2000;
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
    const answer = await fetch("/rows" + location.search, { headers, cache: "no-store" });
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
  const link = event.target.closest("a[href^='/?'], a[href='/']");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(link.href);
});

let typing;
live.addEventListener("input", (event) => {
  if (event.target.id !== "search") return;
  clearTimeout(typing);
  typing = setTimeout(search, 150, event.target.form);
});

live.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  search(event.target);
});

function search(form) {
  const fields = [...new FormData(form)].filter(([, value]) => value);
  const query = new URLSearchParams(fields).toString();
  history.replaceState(null, "", query ? `/?${query}` : "/");
  refresh(true);
}

// The chart

let chart;
let drawn;

function draw() {
  const box = document.getElementById("chart");
  if (!box) return;
  const values = box.dataset.values.split(",").map(Number);
  const hours = values.map((_, index) => Number(box.dataset.start) + index * 3600);
  const data = [hours, values];
  if (chart && drawn === box) return void chart.setData(data);
  chart?.destroy();
  drawn = box;
  box.classList.add("drawn");
  chart = new uPlot(options(box), data, box);
  new ResizeObserver(() => chart && drawn === box && chart.setSize(size(box))).observe(box);
}

function size(box) {
  return { width: box.clientWidth, height: box.clientHeight };
}

function options(box) {
  const color = (name) => getComputedStyle(box).getPropertyValue(name);
  const axis = { stroke: color("--soft"), font: "11px system-ui", ticks: { show: false } };
  const grid = { stroke: color("--line"), width: 1 };
  return {
    ...size(box),
    legend: { show: false },
    padding: [6, 4, 0, 0],
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    scales: { x: { range: (_, from, to) => [from - 1800, to + 1800] }, y: { range: (_, __, most) => [0, Math.max(4, Math.ceil(most * 1.1))] } },
    axes: [
      { ...axis, size: 24, space: 70, grid: { show: false }, values: (_, marks) => marks.map(day) },
      { ...axis, size: 38, space: 34, grid, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000] },
    ],
    series: [{}, { fill: color("--bar"), width: 0, paths: uPlot.paths.bars({ size: [0.8, 14] }), points: { show: false } }],
    hooks: { ready: [addTip], setCursor: [moveTip] },
  };
}

function day(seconds) {
  const moment = new Date(seconds * 1000);
  return seconds % 86400 ? moment.toISOString().slice(11, 16) : moment.toUTCString().slice(0, 7).replace(",", "");
}

function addTip(plot) {
  plot.tip = plot.over.appendChild(document.createElement("div"));
  plot.tip.className = "tip";
}

function moveTip(plot) {
  const { idx, left } = plot.cursor;
  if (!plot.tip) return;
  const inside = idx != null && left >= 0;
  plot.tip.textContent = inside ? `${plot.data[1][idx]} · ${new Date(plot.data[0][idx] * 1000).toUTCString().slice(0, 22)}` : "";
  if (inside) plot.tip.style.left = `${Math.min(left + 10, plot.over.clientWidth - plot.tip.offsetWidth)}px`;
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
