// Measures the console in Chromium: how long each page takes until it shows what it is opened for, on a
// first visit and later, and until all of it is there; how long a keystroke takes until its result is
// drawn, and how even scrolling is. Writes JSON to stdout.
//
//   node e2e/speed.mjs --base http://127.0.0.1:7420 --cluster ID [--loads 20] [--visits 10] [--chromium PATH]
//
// With --from and --to (RFC 3339) it measures charts over that time instead, which has to be in the store.
import { parseArgs } from "node:util";
import { launch } from "./browser.mjs";

const { values: args } = parseArgs({
  options: { base: { type: "string" }, cluster: { type: "string" }, loads: { type: "string", default: "20" }, visits: { type: "string", default: "10" }, from: { type: "string" }, to: { type: "string" }, chromium: { type: "string", default: "/usr/bin/chromium" } },
});
const base = args.base.replace(/\/$/, "");
const cluster = `/clusters/${encodeURIComponent(args.cluster)}`;
const loads = Number(args.loads);
const timeout = 60_000;
const p95 = (all) => [...all].sort((a, b) => a - b)[Math.max(0, Math.ceil(all.length * 0.95) - 1)];
const median = (all) => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)];
const window = { viewport: { width: 1440, height: 900 } };
const ask = async (path) => (await fetch(`${base}/apis/crowsnest.dev/v1${path}`)).json();

const browser = await launch(args.chromium);
const results = [];
const note = (m) => process.stderr.write(`${m}\n`);
if (args.from && args.to) {
  try {
    await history(args.from, args.to);
  } finally {
    await browser.close();
  }
  console.log(JSON.stringify(results));
  process.exit(0);
}

const [pod] = (await ask(`${cluster}/pods?limit=1`)).items;
const [node] = (await ask(`${cluster}/nodes?limit=1`)).items;
const [workload] = (await ask(`${cluster}/workloads?limit=1`)).items;
const enc = encodeURIComponent;
const namespace = `${cluster}/namespaces/${enc(pod.namespace)}`;

// What a page is opened for; until it is drawn the page is of no use. And what is there once all of it is: of
// a long table more rows than the worst, of which a header is one more.
const rows = (table) => `[role=table][aria-label="${table}"] [data-index]`;
const allRows = (table) => `[role=table][aria-label="${table}"]:not([aria-rowcount="101"]) [data-index]`;
const idle = "main:has(article):has([role=table]):not(:has(.mantine-Skeleton-root[data-visible=true], [aria-busy=true]))";
const pages = [
  { name: "overview", path: "/", want: "article", whole: idle, bar: "<= 1000" },
  { name: "cluster", path: cluster, want: "[aria-label^='chart of'] canvas" },
  { name: "nodes", path: `${cluster}?tab=nodes`, want: rows("nodes"), whole: allRows("nodes") },
  { name: "pods", path: `${cluster}?tab=pods`, want: rows("pods"), whole: allRows("pods") },
  { name: "workloads", path: `${cluster}?tab=workloads`, want: rows("workloads"), whole: allRows("workloads") },
  { name: "node", path: `${cluster}/nodes/${enc(node.name)}`, want: "[aria-label^='chart of'] canvas" },
  { name: "workload", path: `${cluster}/namespaces/${enc(workload.namespace)}/workloads/${enc(workload.type)}/${enc(workload.name)}`, want: "[aria-label^='chart of'] canvas" },
  { name: "pod", path: `${namespace}/pods/${enc(pod.name)}`, want: "[aria-label^='chart of'] canvas" },
  { name: "incidents", path: "/incidents", want: "[role=table]" },
  { name: "policies", path: "/policies", want: rows("policies") },
  { name: "logs", path: "/logs", want: "[aria-label='log lines'], h1" },
];
try {
  for (const page of pages) {
    const shown = `${page.path.replace(cluster, "the cluster's page ")} shows ${page.want}`;
    const context = await browser.newContext(window);
    // The first fills the cache; first visits have a figure of their own.
    await load(context, page);
    const took = [];
    for (let i = 0; i < loads; i++) took.push(await load(context, page));
    await context.close();
    const figure = (name, all, what, bar = "") => {
      results.push({ name: `${name}_${page.name}`, unit: "ms", p95: p95(all), n: all.length, bar, what });
      note(`${name} ${page.name}: ${p95(all).toFixed(0)} ms, median ${median(all).toFixed(0)}`);
    };
    figure("load", took.map((t) => t.want), `From the navigation until ${shown}, scripts in the browser's cache`, page.bar);
    if (page.whole) figure("whole", took.map((t) => t.whole), `From the navigation until all of it is there (${page.whole}), scripts in the browser's cache`);
    if (page.bar) {
      const first = [];
      for (let i = 0; i < Number(args.visits); i++) {
        const visitor = await browser.newContext(window);
        first.push((await load(visitor, page)).want);
        await visitor.close();
      }
      figure("first", first, `From the navigation until ${shown}, on a first visit: nothing is in the browser's cache`, page.bar);
    }
  }
  for (const { name, path, table, words } of [
    { name: "nodes", path: `${cluster}?tab=nodes`, table: "nodes", words: "worker-04" },
    { name: "workloads", path: `${cluster}?tab=workloads`, table: "workloads", words: "shop cart" },
  ]) {
    const p = await browser.newPage(window);
    await p.goto(base + path, { timeout });
    await p.waitForSelector(rows(table), { timeout });
    await p.waitForTimeout(1500);
    const took = [];
    for (let round = 0; round < 4; round++) {
      const field = p.getByLabel(`filter ${table}`);
      await field.fill("");
      await field.focus();
      // As fast as keys can come, and at a pace at which the URL is written between them.
      for (const key of words) {
        took.push(await keystroke(p, key));
        if (round % 2 === 1) await p.waitForTimeout(275);
      }
    }
    results.push({ name: `keystroke_${name}`, unit: "ms", p95: p95(took), n: took.length, bar: "<= 100", what: `From a key in the filter of the table of ${name} until the frame after its rows were drawn` });
    note(`keystroke ${name}: ${p95(took).toFixed(0)} ms`);
    await p.getByLabel(`filter ${table}`).fill("");
    await p.waitForTimeout(500);
    const frames = await p.evaluate(async (selector) => {
      const element = document.querySelector(selector);
      const gaps = [];
      let before = performance.now();
      for (let i = 0; i < 120; i++) {
        element.scrollTop += 400;
        await new Promise((done) => requestAnimationFrame(done));
        const now = performance.now();
        gaps.push(now - before);
        before = now;
      }
      return gaps;
    }, `[role=table][aria-label="${table}"]`);
    results.push({ name: `scroll_${name}`, unit: "ms", p95: p95(frames), n: frames.length, bar: "", what: `From frame to frame while the table of ${name} is scrolled by 400 px a frame` });
    note(`scroll ${name}: ${p95(frames).toFixed(0)} ms`);
    await p.close();
  }
  {
    const p = await browser.newPage(window);
    await p.goto(base, { timeout });
    await p.waitForSelector("article", { timeout });
    await p.keyboard.press("/");
    await p.getByRole("combobox").waitFor({ timeout });
    const took = [];
    for (let round = 0; round < 4; round++) {
      await p.getByRole("combobox").fill("");
      for (const key of "worker-0") took.push(await keystroke(p, key));
    }
    results.push({ name: "keystroke_palette", unit: "ms", p95: p95(took), n: took.length, bar: "<= 100", what: "From a key in the palette until the frame after it was drawn" });
    note(`keystroke palette: ${p95(took).toFixed(0)} ms`);
    await p.close();
  }
  await tail();
} finally {
  await browser.close();
}
console.log(JSON.stringify(results));

/** Loads a page: when what it is opened for, and when all of it, was on the screen, by the page's own clock, which began with the navigation. */
async function load(context, { path, want, whole = want }) {
  const p = await context.newPage();
  await p.addInitScript(
    (selectors) => {
      const seen = (globalThis.seenAt = {});
      const look = () => {
        for (const [name, selector] of Object.entries(selectors)) {
          if (name in seen || !document.querySelector(selector)?.checkVisibility()) continue;
          seen[name] = undefined;
          // The frame that draws it has begun; with the next one it has been painted.
          requestAnimationFrame(() => requestAnimationFrame(() => (seen[name] = performance.now())));
        }
      };
      new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["aria-rowcount", "aria-busy", "data-visible"] });
    },
    { want, whole },
  );
  await p.goto(base + path, { waitUntil: "commit", timeout });
  await p.waitForFunction(() => globalThis.seenAt.want !== undefined && globalThis.seenAt.whole !== undefined, undefined, { timeout });
  const seen = await p.evaluate(() => globalThis.seenAt);
  await p.close();
  return seen;
}

/** A board's chart over a long time: how long a change of the range takes until its lines are drawn. */
async function history(from, to) {
  const metric = "k8s_pod_cpu_core_used";
  const shown = `${metric}{cluster=${JSON.stringify(args.cluster)}}`;
  const answer = await (await fetch(`${base}/api/v1/series?${new URLSearchParams({ "match[]": shown, start: new Date(Date.parse(to) - 3600_000).toISOString(), end: to })}`)).json();
  const { node, namespace, pod } = answer.data[0];
  const objects = { pod: { cluster: args.cluster, namespace, pod }, node: { cluster: args.cluster, node } };
  for (const [what, object] of Object.entries(objects)) {
    const name = `speed-${what}`;
    await fetch(`${base}/apis/crowsnest.dev/v1/boards/${name}`, { method: "DELETE" });
    const made = await fetch(`${base}/apis/crowsnest.dev/v1/boards`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ apiVersion: "crowsnest.dev/v1", kind: "Board", metadata: { name }, spec: { title: name, panels: [{ title: "CPU used", kind: "chart", metrics: [metric], object, ...(what === "node" ? { by: ["pod"] } : {}) }] } }),
    });
    if (!made.ok) throw new Error(`the board could not be made: ${made.status} ${await made.text()}`);
    const p = await browser.newPage(window);
    // When the page has the answer; what it draws of it is drawn with the second frame after.
    await p.addInitScript(() => {
      const asked = globalThis.fetch;
      globalThis.fetch = async (...args) => {
        const answer = await asked(...args);
        const url = typeof args[0] === "string" ? args[0] : args[0].url;
        if (url.includes("/chart?")) void answer.clone().text().then(() => requestAnimationFrame(() => requestAnimationFrame(() => globalThis.chartDrawn?.(performance.now()))));
        return answer;
      };
    });
    // Each time it begins half a day later or earlier: the server has its data at hand, the page does not have the answer.
    const took = [];
    await p.goto(`${base}/boards/${name}?${new URLSearchParams({ from, to })}`, { timeout });
    await p.waitForSelector("[aria-label^='chart of'] canvas", { timeout });
    for (let i = 1; i <= Math.max(loads, 20); i++) {
      const search = new URLSearchParams({ from: new Date(Date.parse(from) + i * 43_200_000).toISOString(), to });
      took.push(
        await p.evaluate(
          (to) =>
            new Promise((done) => {
              const at = performance.now();
              globalThis.chartDrawn = (drawn) => done(drawn - at);
              history.pushState({}, "", to);
              dispatchEvent(new PopStateEvent("popstate"));
            }),
          `/boards/${name}?${search}`,
        ),
      );
    }
    await p.close();
    results.push({ name: `history_${what}`, unit: "ms", p95: p95(took), n: took.length, bar: "<= 300", what: `From a change of the range to ${Math.round((Date.parse(to) - Date.parse(from)) / 86_400_000)} days until a chart of ${what === "pod" ? "one pod" : "a node's pods"} shows it, warm` });
    note(`history ${what}: ${p95(took).toFixed(0)} ms`);
  }
}

/** A live tail while 1,000 lines a second arrive: how even the page draws, what keeps it busy, and that a pause holds what is shown while lines wait. */
async function tail() {
  const seconds = 20;
  const made = await fetch(`${base}/apis/crowsnest.dev/v1/tokens`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ kind: "ingest", cluster: args.cluster, name: "speed" }) });
  if (!made.ok) throw new Error(`no ingest token: ${made.status} ${await made.text()}`);
  const { token } = await made.json();
  const p = await browser.newPage(window);
  await p.goto(`${base}/logs?live=1&q=${enc('"tail of speed"')}`, { timeout });
  await p.getByText("following").waitFor({ timeout });
  let sent = 0;
  const push = async (n) => {
    const now = BigInt(Date.now()) * 1_000_000n;
    const values = Array.from({ length: n }, (_, i) => [String(now + BigInt(i)), `tail of speed, line ${sent + i}`]);
    sent += values.length;
    const answer = await fetch(`${base}/loki/api/v1/push`, { method: "POST", headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` }, body: JSON.stringify({ streams: [{ stream: { namespace: "speed", pod: "speed-1", container: "app" }, values }] }) });
    if (!answer.ok) throw new Error(`push: ${answer.status} ${await answer.text()}`);
  };
  const frames = p.evaluate(async (millis) => {
    const gaps = [];
    const tasks = [];
    new PerformanceObserver((list) => list.getEntries().forEach((e) => tasks.push(e.duration))).observe({ type: "longtask" });
    const end = performance.now() + millis;
    for (let before = performance.now(); before < end; ) {
      await new Promise((done) => requestAnimationFrame(done));
      const now = performance.now();
      gaps.push(now - before);
      before = now;
    }
    return { gaps, tasks };
  }, seconds * 1000);
  const paused = (async () => {
    await p.waitForTimeout((seconds * 1000) / 2);
    await p.getByRole("button", { name: "Pause" }).click();
    const first = p.getByRole("list", { name: "log lines" }).getByRole("listitem").first();
    const held = await first.innerText();
    await p.getByText(/lines wait/).waitFor({ timeout });
    await p.waitForTimeout(2000);
    if ((await first.innerText()) !== held) throw new Error("a paused tail goes on");
    await p.getByRole("button", { name: "Go on" }).click();
    await p.waitForFunction((text) => document.querySelector("[aria-label='log lines'] [role=listitem]")?.innerText !== text, held, { timeout });
  })();
  // One push after the other: what a slow one leaves behind the next one takes along.
  for (const start = Date.now(); sent < seconds * 1000; ) {
    const due = Math.min(seconds * 1000, Date.now() - start) - sent;
    if (due > 0) await push(Math.min(due, 2000));
    await new Promise((done) => setTimeout(done, 100));
  }
  const { gaps, tasks } = await frames;
  await paused;
  await p.waitForTimeout(8000);
  const bar = await p.getByRole("status").first().innerText();
  const drawn = Number(await p.getByRole("list", { name: "log lines" }).getByRole("listitem").first().getAttribute("aria-setsize"));
  note(`tail: ${sent} lines sent in ${seconds} s, ${drawn} in the list; ${bar.replaceAll("\n", " ")}; longest frame ${Math.max(...gaps).toFixed(0)} ms`);
  results.push({ name: "tail_frame", unit: "ms", p95: p95(gaps), n: gaps.length, bar: "<= 100", what: `From frame to frame of a live tail while 1,000 lines a second arrive for ${seconds} s; the longest took ${Math.max(...gaps).toFixed(0)} ms` });
  results.push({ name: "tail_task", unit: "ms", p95: p95([0, ...tasks]), n: tasks.length, bar: "<= 200", what: `Tasks of over 50 ms that kept the page from answering meanwhile; the longest took ${Math.max(0, ...tasks).toFixed(0)} ms` });
  note(`tail: ${tasks.length} long tasks, the longest ${Math.max(0, ...tasks).toFixed(0)} ms`);
  await p.close();
}

/** From the key, as the system tells of it, until what it changed is on the screen, rows included: the second frame begins after the first was painted. */
async function keystroke(p, key) {
  const measured = p.evaluate(
    () =>
      new Promise((done) => {
        document.addEventListener(
          "keydown",
          (e) => {
            const drawn = () => requestAnimationFrame(() => (document.querySelector("[data-behind]") ? drawn() : requestAnimationFrame(() => done(performance.now() - e.timeStamp))));
            drawn();
          },
          { capture: true, once: true },
        );
      }),
  );
  // The listener stands before the key comes.
  await p.evaluate(() => undefined);
  await p.keyboard.type(key);
  return measured;
}
