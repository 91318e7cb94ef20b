// Opens pages of the console in Chromium while the server misbehaves: it answers 500, hangs, is started
// anew; it is empty; its objects have names that nobody would choose. What was shown must stay, with a
// notice, and the page must recover by itself. The server itself is left alone: a proxy stands before it.
//
//   node e2e/broken.mjs --base http://127.0.0.1:7420 --cluster ID --namespace NS --workload TYPE/NAME
//     --pod POD --node NODE --out DIR [--empty http://127.0.0.1:7520] [--collector crowsnest-collector]
//     [--only errors,hangs,restarts,names,empty,targets]
//     [--views desktop-light,…] [--chromium PATH] [--timeout SECONDS]
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { once } from "node:events";
import { createServer, request as ask } from "node:http";
import { tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { accessibility, launch, undisturbed, views } from "./browser.mjs";

const { values: args } = parseArgs({
  options: {
    base: { type: "string" },
    cluster: { type: "string" },
    namespace: { type: "string" },
    workload: { type: "string" },
    pod: { type: "string" },
    node: { type: "string" },
    out: { type: "string" },
    /** A server without any cluster. */
    empty: { type: "string" },
    /** The collector's program: one with a scrape target that is down joins the server. */
    collector: { type: "string" },
    only: { type: "string" },
    views: { type: "string", default: "desktop-light,phone-dark,wide-light" },
    chromium: { type: "string", default: "/usr/bin/chromium" },
    timeout: { type: "string", default: "60" },
  },
});
for (const name of ["base", "cluster", "namespace", "workload", "pod", "node", "out"]) {
  if (!args[name]) {
    console.error(`broken: --${name} is missing`);
    process.exit(2);
  }
}
const timeout = Number(args.timeout) * 1000;
const enc = encodeURIComponent;
const [type, workload] = args.workload.split("/");

// --- The proxy -------------------------------------------------------------------------------------

// What objects are called when names are odd; nothing of it may run, be cut in two or break a link.
const odd = {
  [args.namespace]: `"><img src=x onerror=alert(1)>`,
  [workload]: `a/b 'c' "d" & <b>e</b>`,
  [args.pod]: "🔥".repeat(30) + "x".repeat(193),
  [args.node]: "node%2F<script>alert(2)</script>\\",
};
const asJson = (s) => JSON.stringify(s);

/** Answers with odd names for those that are. */
const disguise = (body) => Object.entries(odd).reduce((text, [real, name]) => text.replaceAll(asJson(real), asJson(name)), body);
/** Questions about odd names, for the server. */
function unveil(url) {
  const [path, query] = url.split("?");
  const real = (text) => Object.entries(odd).reduce((t, [name, o]) => t.replaceAll(asJson(o), asJson(name)).replaceAll(o, name), text);
  const parts = path.split("/").map((p) => enc(real(decodeURIComponent(p))));
  if (query === undefined) return parts.join("/");
  const params = [...new URLSearchParams(query)].map(([k, v]) => [k, real(v)]);
  return `${parts.join("/")}?${new URLSearchParams(params)}`;
}

const target = new URL(args.base);
const open = new Set();
let mode = "well"; // well, errors, hangs, names
const isQuestion = (url) => /^\/(apis|api|select|healthz)/.test(url);
const proxy = createServer((from, to) => {
  const { method, url, headers } = from;
  if (isQuestion(url) && mode === "errors") {
    to.writeHead(500, { "Content-Type": "application/problem+json" });
    to.end(JSON.stringify({ type: "urn:crowsnest:problem:internal", title: "Internal error", status: 500, code: "internal", detail: "the disk is on fire" }));
    return;
  }
  if (isQuestion(url) && mode === "hangs") return; // nothing is ever said
  const names = mode === "names" && isQuestion(url);
  const asked = { ...headers, host: target.host };
  if (headers.origin) asked.origin = target.origin;
  if (names) delete asked["accept-encoding"];
  const on = ask({ host: target.hostname, port: target.port, method, path: names ? unveil(url) : url, headers: asked }, (answer) => {
    if (!names || /event-stream/.test(answer.headers["content-type"] ?? "")) {
      to.writeHead(answer.statusCode, answer.headers);
      answer.pipe(to);
      return;
    }
    const chunks = [];
    answer.on("data", (c) => chunks.push(c));
    answer.on("end", () => {
      const { "content-length": _, ...rest } = answer.headers;
      to.writeHead(answer.statusCode, rest);
      to.end(disguise(Buffer.concat(chunks).toString()));
    });
  });
  on.on("error", () => to.destroy());
  to.on("close", () => on.destroy());
  from.pipe(on);
});
proxy.on("connection", (s) => {
  open.add(s);
  s.on("close", () => open.delete(s));
});
const listen = (port) => once(proxy.listen(port, "127.0.0.1"), "listening");
const cut = () => open.forEach((s) => s.destroy());
await listen(0);
const { port } = proxy.address();
const base = `http://127.0.0.1:${port}`;

// --- What breaks, and how it is mended -----------------------------------------------------------------

const breaks = {
  errors: { on: () => (mode = "errors"), off: () => (mode = "well") },
  hangs: {
    on: () => (mode = "hangs"),
    off: () => {
      mode = "well";
      cut();
    },
  },
  restarts: {
    on: async () => {
      const closed = new Promise((done) => proxy.close(done));
      cut();
      await closed;
    },
    off: () => listen(port),
  },
};

// --- The pages -----------------------------------------------------------------------------------------

const named = (names) => {
  const n = (real) => enc(names ? odd[real] : real);
  const cluster = `/clusters/${enc(args.cluster)}`;
  const namespace = `${cluster}/namespaces/${n(args.namespace)}`;
  return { cluster, namespace, workload: `${namespace}/workloads/${enc(type)}/${n(workload)}`, pod: `${namespace}/pods/${n(args.pod)}`, node: `${cluster}/nodes/${n(args.node)}` };
};
const at = named(false);
const rows = (table) => (p) => p.getByRole("table", { name: table }).locator("[data-index]").first();
const chart = (p) => p.locator("[aria-label^='chart of']").first();
const lines = (p) => p.getByRole("list", { name: "log lines" }).getByRole("listitem").first();
const heading = (p) => p.getByRole("heading", { level: 1 });

const pages = [
  { name: "overview", path: "/", see: (p) => p.getByRole("article").first() },
  { name: "nodes", path: `${at.cluster}?tab=nodes`, see: rows("nodes") },
  { name: "workload", path: at.workload, see: rows("pods") },
  { name: "pod", path: at.pod, see: rows("containers") },
  { name: "charts", path: at.node, see: chart },
  { name: "logs", path: "/logs", see: lines },
  { name: "presets", path: "/policies?tab=presets", see: rows("presets") },
  { name: "incidents", path: "/incidents?state=all", see: (p) => p.getByRole("table").first() },
];
const everywhere = ["/", "/clusters", "/incidents?state=all", "/incidents?view=statistics", "/logs", "/events", "/explore", "/boards", "/policies", "/policies?tab=presets", "/new/policy", "/notifications", "/notifications?tab=deliveries", "/notifications?tab=silences", "/notifications?tab=maintenance", "/settings", "/help"];

await mkdir(args.out, { recursive: true });
const browser = await launch(args.chromium);
const failures = [];
const parts = args.only?.split(",");
const does = (part) => !parts || parts.includes(part);
const quick = (path) => `${path}${path.includes("?") ? "&" : "?"}refresh=10s`;

async function tell(name, found) {
  for (const f of found) failures.push(`${name}: ${f}`);
  console.log(`${found.length === 0 ? "ok  " : "FAIL"} ${name}${found.map((f) => `\n       ${f}`).join("")}`);
}

/** Runs on a page of its own; what went wrong is told, and so is any script that ran out of a name. */
async function on(context, name, run, options) {
  await tell(name, await undisturbed(() => tried(context, run, options)));
}

async function tried(context, run, { mayLog = false } = {}) {
  const found = [];
  const p = await context.newPage();
  p.on("pageerror", (e) => found.push(`error: ${e.message}`));
  p.on("dialog", (d) => {
    found.push(`a script ran: ${d.message()}`);
    void d.dismiss();
  });
  if (!mayLog) p.on("console", (m) => m.type() === "error" && found.push(`console: ${m.text()}`));
  try {
    await run(p, found);
  } catch (e) {
    found.push(e instanceof Error ? e.message.split("\n")[0] : String(e));
  }
  await p.close();
  return found;
}

const notice = (p) => p.getByRole("status").filter({ hasText: /Server unreachable|answers with errors/ });

/** What was shown stays, with a notice; when the server is back, so is the page, by itself. */
async function whileOpen(p, found, page, how, file) {
  await p.goto(base + quick(page.path), { waitUntil: "domcontentloaded", timeout });
  await page.see(p).waitFor({ timeout });
  await breaks[how].on();
  try {
    await notice(p).waitFor({ timeout }).catch(() => found.push("says nothing of a server that is not well"));
    if (!(await page.see(p).isVisible())) found.push("no longer shows what it showed");
    await p.screenshot({ path: file });
  } finally {
    await breaks[how].off();
  }
  await notice(p).waitFor({ state: "detached", timeout: 2 * timeout }).catch(() => found.push("still complains of a server that is well"));
  await page.see(p).waitFor({ timeout }).catch(() => found.push("does not come back"));
}

/** A page that is opened while the server is not well says so, and fills by itself. */
async function whileOpening(p, found, page, how, file) {
  // The program itself is in the browser's cache, as it is for whoever uses it.
  await p.goto(`${base}/help`, { timeout });
  await heading(p).waitFor({ timeout });
  await breaks[how].on();
  try {
    await p.evaluate((to) => {
      history.pushState({}, "", to);
      dispatchEvent(new PopStateEvent("popstate"));
    }, quick(page.path));
    await p.waitForTimeout(1500);
    await notice(p).or(p.getByRole("alert")).first().waitFor({ timeout }).catch(() => found.push("does not say why it is empty"));
    await p.screenshot({ path: file });
  } finally {
    await breaks[how].off();
  }
  await page.see(p).waitFor({ timeout: 2 * timeout }).catch(() => found.push("does not fill by itself"));
}

async function look(p, found, file) {
  await heading(p).waitFor({ timeout });
  await p.waitForFunction(() => document.querySelectorAll("[data-visible=true].mantine-Skeleton-root, [aria-busy=true]").length === 0, undefined, { timeout }).catch(() => found.push("is still loading"));
  for (const a of await p.getByRole("alert").allInnerTexts()) found.push(`says: ${a.replaceAll("\n", " ")}`);
  const wide = await p.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (wide > 1) found.push(`is ${wide} px wider than the window`);
  found.push(...(await accessibility(p)));
  await p.screenshot({ path: file, fullPage: true });
}

async function post(path, body) {
  const answer = await fetch(`${args.base}/apis/crowsnest.dev/v1/${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`POST ${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

/** A target of notifications that answers 500, and a cluster one of whose two scrape targets is down, while run runs. */
async function withTargetsThatFail(run) {
  const hook = createServer((from, to) => {
    from.resume();
    to.writeHead(500).end("the pager is on fire");
  });
  await once(hook.listen(0, "127.0.0.1"), "listening");
  const nobody = createServer(); // a port that is free, and stays so for as long as this takes
  await once(nobody.listen(0, "127.0.0.1"), "listening");
  const closed = `127.0.0.1:${nobody.address().port}`;
  nobody.close();
  const dir = await mkdtemp(`${tmpdir()}/targets-`);
  await post("targets", { apiVersion: "crowsnest.dev/v1", kind: "Target", metadata: { name: "pager" }, spec: { type: "webhook", url: `http://127.0.0.1:${hook.address().port}/` } });
  await post("targets/pager/test", {});
  const { token } = await post("tokens", { name: "edge", kind: "ingest", cluster: "edge" });
  // What scrapes needs no Kubernetes: its objects are listed from nowhere.
  const kubeconfig = { apiVersion: "v1", kind: "Config", "current-context": "edge", clusters: [{ name: "edge", cluster: { server: `http://${closed}` } }], users: [{ name: "nobody", user: {} }], contexts: [{ name: "edge", context: { cluster: "edge", user: "nobody" } }] };
  const job = (name, at) => ({ job_name: name, scrape_interval: "5s", scrape_timeout: "4s", static_configs: [{ targets: [at] }] });
  for (const [name, text] of Object.entries({ token, kubeconfig: JSON.stringify(kubeconfig), scrape: JSON.stringify({ scrape_configs: [job("payments", closed), job("server", target.host)] }) })) await writeFile(`${dir}/${name}`, text);
  const collector = spawn(args.collector, ["--role", "cluster", "--kubeconfig", `${dir}/kubeconfig`, "--server", args.base, "--token-file", `${dir}/token`, "--scrape-config", `${dir}/scrape`, "--data", `${dir}/data`, "--listen", ""], { stdio: "ignore" });
  const ended = once(collector, "exit");
  try {
    await run();
  } finally {
    collector.kill();
    await ended;
    hook.close();
    await rm(dir, { recursive: true });
  }
}

try {
  for (const view of args.views.split(",")) {
    const context = await browser.newContext(views[view]);
    for (const how of Object.keys(breaks)) {
      if (!does(how)) continue;
      // Each page in the first view; the others show how the notice looks.
      for (const page of view === args.views.split(",")[0] ? pages : pages.slice(0, 1)) {
        await on(context, `${page.name} while the server ${how} ${view}`, (p, found) => whileOpen(p, found, page, how, `${args.out}/${page.name}-${how}-${view}.png`), { mayLog: true });
        await on(context, `${page.name} opened while the server ${how} ${view}`, (p, found) => whileOpening(p, found, page, how, `${args.out}/${page.name}-${how}-opened-${view}.png`), { mayLog: true });
      }
    }
    if (does("names")) {
      mode = "names";
      const to = named(true);
      const shown = { node: odd[args.node], workload: odd[workload], pod: odd[args.pod], namespace: odd[args.namespace] };
      for (const [name, path] of Object.entries(to)) {
        await on(context, `odd names: ${name} ${view}`, async (p, found) => {
          await p.goto(base + path, { waitUntil: "domcontentloaded", timeout });
          await look(p, found, `${args.out}/names-${name}-${view}.png`);
          if (shown[name] && (await heading(p).innerText()) !== shown[name]) found.push(`is headed ${await heading(p).innerText()}`);
        });
      }
      for (const tab of ["workloads", "pods", "nodes", "namespaces", "logs", "events"]) {
        await on(context, `odd names: tab ${tab} ${view}`, async (p, found) => {
          await p.goto(`${base}${to.cluster}?tab=${tab}`, { waitUntil: "domcontentloaded", timeout });
          await look(p, found, `${args.out}/names-${tab}-${view}.png`);
        });
      }
      await on(context, `odd names: from a table to the pod ${view}`, async (p) => {
        await p.goto(`${base}${to.workload}`, { waitUntil: "domcontentloaded", timeout });
        await p.getByRole("link", { name: shown.pod }).first().click({ timeout });
        await p.getByRole("heading", { level: 1, name: shown.pod }).waitFor({ timeout });
        await rows("containers")(p).waitFor({ timeout });
      });
      mode = "well";
    }
    if (does("empty") && args.empty) {
      for (const path of everywhere) {
        await on(context, `empty: ${path} ${view}`, async (p, found) => {
          await p.goto(args.empty + path, { waitUntil: "domcontentloaded", timeout });
          await look(p, found, `${args.out}/empty-${path.replace(/\W+/g, "-")}-${view}.png`);
        });
      }
    }
    await context.close();
  }
  // The last, as the cluster that it adds stays.
  if (does("targets") && args.collector) {
    await withTargetsThatFail(async () => {
      for (const view of args.views.split(",")) {
        const context = await browser.newContext(views[view]);
        const hidden = async (p, words) => {
          await p.goto(`${base}${quick("/")}`, { waitUntil: "domcontentloaded", timeout });
          const line = p.getByRole("listitem").getByRole("link", { name: words });
          await line.waitFor({ timeout });
          return line;
        };
        await on(context, `targets: of notifications ${view}`, async (p, found) => {
          const line = await hidden(p, /1 target takes no notification: pager: answered 500/);
          await look(p, found, `${args.out}/targets-overview-${view}.png`);
          await line.click();
          await p.getByRole("row").filter({ hasText: "pager" }).getByText(/failing|last failed/).waitFor({ timeout });
          await look(p, found, `${args.out}/targets-notifications-${view}.png`);
        });
        await on(context, `targets: of scrapes ${view}`, async (p, found) => {
          await (await hidden(p, "1 scrape target fails: static (edge)")).click();
          await p.getByRole("row").filter({ hasText: "scrape/static" }).getByText("1 of 2", { exact: true }).waitFor({ timeout });
          await look(p, found, `${args.out}/targets-sources-${view}.png`);
        });
        await context.close();
      }
    });
  }
} finally {
  await browser.close();
  proxy.close();
  cut();
}
if (failures.length > 0) {
  console.error(`broken: ${failures.length} failures\n${failures.map((f) => `  ${f}`).join("\n")}`);
  process.exit(1);
}
