// Measures the console in Chromium: how long each page takes until it shows what it is opened for, how
// long a keystroke takes until its result is drawn, and how even scrolling is. Writes JSON to stdout.
//
//   node e2e/speed.mjs --base http://127.0.0.1:7420 --cluster ID [--loads 12] [--chromium PATH]
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const { values: args } = parseArgs({
  options: { base: { type: "string" }, cluster: { type: "string" }, loads: { type: "string", default: "12" }, chromium: { type: "string", default: "/usr/bin/chromium" } },
});
const base = args.base.replace(/\/$/, "");
const cluster = `/clusters/${encodeURIComponent(args.cluster)}`;
const loads = Number(args.loads);
const timeout = 60_000;
const p95 = (all) => [...all].sort((a, b) => a - b)[Math.max(0, Math.ceil(all.length * 0.95) - 1)];
const ask = async (path) => (await fetch(`${base}/apis/crowsnest.dev/v1${path}`)).json();
const [pod] = (await ask(`${cluster}/pods?limit=1`)).items;
const [node] = (await ask(`${cluster}/nodes?limit=1`)).items;
const [workload] = (await ask(`${cluster}/workloads?limit=1`)).items;
const enc = encodeURIComponent;
const namespace = `${cluster}/namespaces/${enc(pod.namespace)}`;

const browser = await chromium.launch({ executablePath: args.chromium, args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
const results = [];
const note = (m) => process.stderr.write(`${m}\n`);

// What a page is opened for; until it is drawn the page is of no use.
const rows = (table) => `[role=table][aria-label="${table}"] [data-index]`;
const pages = [
  { name: "overview", path: "/", want: "article", bar: "<= 1000" },
  { name: "cluster", path: cluster, want: "[aria-label^='chart of'] canvas" },
  { name: "nodes", path: `${cluster}?tab=nodes`, want: rows("nodes") },
  { name: "pods", path: `${cluster}?tab=pods`, want: rows("pods") },
  { name: "workloads", path: `${cluster}?tab=workloads`, want: rows("workloads") },
  { name: "node", path: `${cluster}/nodes/${enc(node.name)}`, want: "[aria-label^='chart of'] canvas" },
  { name: "workload", path: `${cluster}/namespaces/${enc(workload.namespace)}/workloads/${enc(workload.type)}/${enc(workload.name)}`, want: "[aria-label^='chart of'] canvas" },
  { name: "pod", path: `${namespace}/pods/${enc(pod.name)}`, want: "[aria-label^='chart of'] canvas" },
  { name: "incidents", path: "/incidents", want: "[role=table]" },
  { name: "policies", path: "/policies", want: rows("policies") },
  { name: "logs", path: "/logs", want: "[aria-label='log lines'], h1" },
];
try {
  for (const page of pages) {
    const took = [];
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
    for (let i = 0; i < loads; i++) {
      const p = await context.newPage();
      await p.goto(base + page.path, { waitUntil: "commit", timeout });
      await p.waitForSelector(page.want, { timeout });
      // On the page's own clock, which began with the navigation.
      took.push(await p.evaluate(() => new Promise((done) => requestAnimationFrame(() => done(performance.now())))));
      await p.close();
    }
    await context.close();
    results.push({ name: `load_${page.name}`, unit: "ms", p95: p95(took), n: took.length, bar: page.bar ?? "", what: `From the navigation until ${page.path.replace(cluster, "the cluster's page ")} shows ${page.want}, scripts in the browser's cache but for the first load` });
    note(`${page.name}: ${p95(took).toFixed(0)} ms`);
  }
  for (const { name, path, table, words } of [
    { name: "nodes", path: `${cluster}?tab=nodes`, table: "nodes", words: "worker-04" },
    { name: "workloads", path: `${cluster}?tab=workloads`, table: "workloads", words: "shop cart" },
  ]) {
    const p = await browser.newPage({ viewport: { width: 1440, height: 900 } });
    await p.goto(base + path, { timeout });
    await p.waitForSelector(rows(table), { timeout });
    await p.waitForTimeout(1500);
    const took = [];
    for (let round = 0; round < 4; round++) {
      const field = p.getByLabel(`filter ${table}`);
      await field.fill("");
      await field.focus();
      for (const key of words) took.push(await keystroke(p, key));
    }
    results.push({ name: `keystroke_${name}`, unit: "ms", p95: p95(took), n: took.length, bar: "<= 100", what: `From a key in the filter of the table of ${name} until the frame after it was drawn` });
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
    const p = await browser.newPage({ viewport: { width: 1440, height: 900 } });
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
} finally {
  await browser.close();
}
console.log(JSON.stringify(results));

/** From the key's event until what it changed is on the screen: the second frame begins after the first was painted. */
async function keystroke(p, key) {
  const measured = p.evaluate(
    () =>
      new Promise((done) => {
        document.addEventListener(
          "keydown",
          () => {
            const at = performance.now();
            requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - at)));
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
