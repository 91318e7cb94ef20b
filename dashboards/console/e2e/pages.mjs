// Opens every page of the console in Chromium, at desktop and phone width, light and dark, takes a
// screenshot of each, and fails when a page logs an error, a request fails, data is missing, axe
// finds something serious, or the overview transfers more script than it may.
//
//   node e2e/pages.mjs --base http://127.0.0.1:7420 --cluster ID --namespace NS \
//     --workload TYPE/NAME --pod POD --node NODE --out DIR [--incident ID] [--policy NAME]
//     [--chromium PATH] [--only NAME,NAME] [--timeout SECONDS]
import { mkdir } from "node:fs/promises";
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
    incident: { type: "string" },
    policy: { type: "string" },
    chromium: { type: "string", default: "/usr/bin/chromium" },
    only: { type: "string" },
    views: { type: "string", default: "desktop-light,desktop-dark,phone-light,phone-dark" },
    // More than one refresh of a page: what comes late is drawn with the next.
    timeout: { type: "string", default: "45" },
    // Logs and events may be switched off in a test.
    "without-logs": { type: "boolean", default: false },
  },
});
for (const name of ["base", "cluster", "namespace", "workload", "pod", "node", "out"]) {
  if (!args[name]) {
    console.error(`pages: --${name} is missing`);
    process.exit(2);
  }
}

const enc = encodeURIComponent;
const base = args.base.replace(/\/$/, "");
const [type, workload] = args.workload.split("/");
const cluster = `/clusters/${enc(args.cluster)}`;
const namespace = `${cluster}/namespaces/${enc(args.namespace)}`;
const timeout = Number(args.timeout) * 1000;

// What a page must show before it counts as drawn with data. Each is a locator of Playwright's.
const rows = (table, least = 1) => ({ what: `${least} rows of ${table}`, see: (p) => p.getByRole("table", { name: table }).locator("[data-index]").nth(least - 1) });
const words = (text) => ({ what: `the words ${text}`, see: (p) => p.getByText(text).first() });
const charts = (n) => ({ what: `${n} charts`, see: (p) => p.locator("[aria-label^='chart of']").nth(n - 1) });
const lines = { what: "log lines", see: (p) => p.getByRole("list", { name: "log lines" }).getByRole("listitem").first() };
const events = { what: "events", see: (p) => p.getByRole("list", { name: "events" }).getByRole("listitem").first() };
const logs = args["without-logs"] ? [] : [lines];
const eventRows = args["without-logs"] ? [] : [events];

// A service of the namespace and a container of the pod, whichever there are.
const ask = async (path) => {
  const answer = await fetch(`${base}/apis/crowsnest.dev/v1${path}`);
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
};
const service = (await ask(`${cluster}/services?namespace=${enc(args.namespace)}`)).items[0]?.name;
const container = (await ask(`${namespace}/pods/${enc(args.pod)}`)).containers[0].name;

// A board of each kind of panel, which the pages below look at.
const board = { name: "e2e-pages" };
async function makeBoard() {
  const at = `${base}/apis/crowsnest.dev/v1/boards`;
  await fetch(`${at}/${board.name}`, { method: "DELETE" });
  const object = { cluster: args.cluster };
  const made = await fetch(at, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      apiVersion: "crowsnest.dev/v1",
      kind: "Board",
      metadata: { name: board.name },
      spec: {
        title: "One of each",
        description: "A chart, queries, a table and lines.",
        panels: [
          { title: "CPU used", kind: "chart", metrics: ["k8s_node_cpu_usage"], object: { ...object, node: args.node } },
          { title: "Memory by node", kind: "query", query: `k8s_node_mem_usage{cluster=${JSON.stringify(args.cluster)}}` },
          { title: "Nodes' CPU now", kind: "query", query: "k8s_node_cpu_usage", view: "table" },
          ...(args["without-logs"] ? [] : [{ title: "Lines", kind: "logs", query: "*" }]),
          { title: "Pods", kind: "table", of: "pods", object: { ...object, node: args.node }, wide: true },
        ],
      },
    }),
  });
  if (!made.ok) throw new Error(`the board could not be made: ${made.status} ${await made.text()}`);
}

const pages = [
  { name: "overview", path: "/", want: [{ what: "the cluster's card", see: (p) => p.getByRole("article").first() }, words("Worst now")] },
  { name: "clusters", path: "/clusters", want: [rows("clusters")] },
  { name: "cluster", path: cluster, want: [charts(4)] },
  { name: "cluster-workloads", path: `${cluster}?tab=workloads`, want: [rows("workloads")] },
  { name: "cluster-nodes", path: `${cluster}?tab=nodes`, want: [rows("nodes")] },
  { name: "cluster-namespaces", path: `${cluster}?tab=namespaces`, want: [rows("namespaces")] },
  { name: "cluster-pods", path: `${cluster}?tab=pods`, want: [rows("pods")] },
  { name: "cluster-services", path: `${cluster}?tab=services`, want: [{ what: "the services", see: (p) => p.getByRole("table", { name: "services" }) }] },
  { name: "cluster-policies", path: `${cluster}?tab=policies`, want: [{ what: "the policies", see: (p) => p.getByRole("table", { name: "Policies that watch it" }) }] },
  { name: "cluster-logs", path: `${cluster}?tab=logs`, want: logs },
  { name: "cluster-events", path: `${cluster}?tab=events`, want: eventRows },
  { name: "cluster-log-rules", path: `${cluster}?tab=log-rules`, want: [{ what: "the form of masks", see: (p) => p.getByLabel("Regular expressions") }] },
  { name: "cluster-cost", path: `${cluster}?tab=cost`, want: [rows("Limits"), words("Where series come from")] },
  { name: "namespace", path: namespace, want: [charts(4), rows("workloads")] },
  { name: "namespace-pods", path: `${namespace}?tab=pods`, want: [rows("pods")] },
  { name: "namespace-services", path: `${namespace}?tab=services`, want: [{ what: "the services", see: (p) => p.getByRole("table", { name: "services" }) }] },
  ...(service ? [{ name: "service", path: `${namespace}/services/${enc(service)}`, want: [words("Endpoints")] }] : []),
  { name: "container", path: `${namespace}/pods/${enc(args.pod)}/containers/${enc(container)}`, want: [charts(3)] },
  { name: "container-logs", path: `${namespace}/pods/${enc(args.pod)}/containers/${enc(container)}?tab=logs`, want: logs },
  { name: "pod-facts", path: `${namespace}/pods/${enc(args.pod)}?tab=facts`, want: [words("workload_type")] },
  { name: "pod-policies", path: `${namespace}/pods/${enc(args.pod)}?tab=policies`, want: [words("Policies that watch it")] },
  { name: "gone-container", path: `${namespace}/pods/${enc(args.pod)}/containers/nosuch`, want: [words("does not exist now")] },
  { name: "gone-namespace", path: `${cluster}/namespaces/${enc('"><img src=x onerror=alert(1)>')}`, want: [words("does not exist now")], expected: [404] },
  { name: "gone-pod", path: `${cluster}/namespaces/${enc("a/b")}/pods/${enc("🔥".repeat(30) + "x".repeat(193))}`, want: [words("does not exist now")], expected: [404] },
  { name: "cluster-sources", path: `${cluster}?tab=sources`, want: [rows("data sources")] },
  { name: "node", path: `${cluster}/nodes/${enc(args.node)}`, want: [charts(4), rows("pods")] },
  { name: "workload", path: `${namespace}/workloads/${enc(type)}/${enc(workload)}`, want: [charts(3), rows("pods")] },
  { name: "workload-logs", path: `${namespace}/workloads/${enc(type)}/${enc(workload)}?tab=logs`, want: logs },
  { name: "workload-events", path: `${namespace}/workloads/${enc(type)}/${enc(workload)}?tab=events`, want: [] },
  { name: "workload-incidents", path: `${namespace}/workloads/${enc(type)}/${enc(workload)}?tab=incidents`, want: [] },
  { name: "pod", path: `${namespace}/pods/${enc(args.pod)}`, want: [rows("containers"), charts(4)] },
  { name: "pod-logs", path: `${namespace}/pods/${enc(args.pod)}?tab=logs`, want: logs },
  { name: "pod-events", path: `${namespace}/pods/${enc(args.pod)}?tab=events`, want: [] },
  { name: "incidents", path: "/incidents?state=all", want: args.incident ? [rows("incidents")] : [] },
  ...(args.incident ? [{ name: "incident", path: `/incidents/${enc(args.incident)}`, want: [charts(1)] }] : []),
  { name: "policies", path: "/policies", want: args.policy ? [rows("policies")] : [] },
  { name: "presets", path: "/policies?tab=presets", want: [rows("presets", 20)] },
  { name: "statistics", path: "/incidents?view=statistics", want: [words("MTTR")] },
  { name: "help", path: "/help/policies", want: [words("When no data comes")] },
  { name: "mangled-help", path: "/help/..%2F%3Cscript%3E", want: [words("There is no such guide")] },
  { name: "mangled-act", path: "/act/%3Cscript%3E%F0%9F%94%A5", want: [words("could not be loaded")], expected: [404], alerts: true },
  ...(args.policy ? [{ name: "policy", path: `/policies/${enc(args.policy)}`, want: [words("As it is written")] }] : []),
  { name: "new-policy", path: "/new/policy?metric=k8s_pod_rate_cpu_core_used_limit", want: [charts(1), words("would be judged")] },
  ...(args.policy ? [{ name: "change-policy", path: `/policies/${enc(args.policy)}/edit`, want: [words("would be judged")] }] : []),
  { name: "explore", path: "/explore?q=k8s_node_cpu_usage", want: [charts(1)] },
  { name: "explore-table", path: "/explore?q=k8s_node_cpu_usage&view=table", want: [rows("series")] },
  { name: "boards", path: "/boards", want: [rows("boards")] },
  { name: "board", path: `/boards/${board.name}`, want: [charts(2), rows("series"), rows("pods"), ...logs] },
  { name: "board-edit", path: `/boards/${board.name}?edit=1`, want: [charts(2), { what: "the board's title", see: (p) => p.getByLabel("Title", { exact: true }) }] },
  {
    name: "pin",
    path: `${cluster}/nodes/${enc(args.node)}`,
    want: [],
    // A chart's menu puts it on a board.
    act: async (p) => {
      if (!(await shows(p, charts(1)))) throw new Error("the node shows no chart"); // it is drawn when it comes near
      await p.getByRole("button", { name: /^take from the chart/ }).first().click();
      await p.getByRole("menuitem", { name: "Pin to a board" }).click();
      await p.getByRole("dialog").getByRole("button", { name: "Pin", exact: true }).waitFor();
    },
    after: async (p) => {
      await p.getByRole("dialog").getByRole("button", { name: "Pin", exact: true }).click();
      await p.getByRole("link", { name: "Open the board" }).click();
      await p.waitForURL((url) => url.pathname.startsWith("/boards/"));
      if (!(await shows(p, charts(3)))) throw new Error("the board shows less than three charts");
    },
  },
  { name: "mangled-board", path: "/boards/%3Cscript%3E%2F%22?edit=1&from=%00", want: [words("There is no board")], expected: [404] },
  { name: "targets", path: "/notifications", want: [] },
  { name: "deliveries", path: "/notifications?tab=deliveries", want: [] },
  { name: "silences", path: "/notifications?tab=silences", want: [{ what: "the table", see: (p) => p.getByRole("table", { name: "silences" }) }] },
  { name: "maintenance", path: "/notifications?tab=maintenance", want: [{ what: "the table", see: (p) => p.getByRole("table", { name: "maintenance windows" }) }] },
  { name: "settings", path: "/settings", want: [words("Add a cluster"), { what: "the tokens", see: (p) => p.getByRole("table", { name: "tokens" }) }] },
  // Whatever stands in the URL, the page can be used.
  { name: "mangled-cluster", path: `${cluster}?from=now-99x&to=%3Cb%3E&tab=nosuch&sort=--&refresh=%00&compare=3y`, want: [{ what: "the tabs", see: (p) => p.getByRole("tab").first() }] },
  { name: "mangled-incidents", path: "/incidents?state=%27%22&severity=%F0%9F%94%A5&sort=-nosuch&from=2026-99-99", want: [{ what: "the table", see: (p) => p.getByRole("table") }] },
  { name: "mangled-policies", path: "/policies?sort=%25&filter=%3Cscript%3E", want: [] },
  { name: "mangled-new-policy", path: "/new/policy?metric=nosuch&level=%22&namespace=a%22%7D%20or%20up%7Bx%3D%22", want: [words("would be judged")] },
  { name: "logs", path: "/logs", want: logs },
  { name: "events", path: "/events", want: eventRows },
  { name: "logs-form", path: `/logs?form=1&q=${enc('level:in(error,warn,info) cluster:="' + args.cluster + '"')}`, want: [{ what: "the form's words", see: (p) => p.getByLabel("Words", { exact: true }) }, ...logs] },
  { name: "events-form", path: "/events?form=1", want: [{ what: "the form's reasons", see: (p) => p.getByPlaceholder("any reason") }, ...eventRows] },
  { name: "mangled-logs", path: `/logs?form=1&q=${enc('a or ("')}&cluster=%00&wrap=%27`, want: [{ what: "that the form cannot show it", see: (p) => p.getByText("This query says more than a form can show").first() }], expected: [400], alerts: true },
  { name: "log-policy", path: `/new/policy?level=log&cluster=${enc(args.cluster)}&namespace=${enc(args.namespace)}&query=${enc("level:error")}`, want: [words("would be judged"), { what: "the query", see: (p) => p.locator('input[value="level:error"]') }] },
  {
    name: "log-search",
    path: "/logs",
    want: [],
    // A field and its value come from completion, Enter searches, and the form says the same.
    act: async (p) => {
      const query = p.getByRole("textbox", { name: "search the logs of all clusters" });
      await query.click();
      await query.pressSequentially("clus");
      await p.getByRole("option", { name: /^cluster/ }).waitFor();
      await p.keyboard.press("Tab");
      await query.pressSequentially(args.cluster.slice(0, 3));
      await p.getByRole("option", { name: args.cluster }).first().waitFor();
      await p.keyboard.press("Tab");
      await p.keyboard.press("Enter");
      await p.waitForURL((url) => url.searchParams.get("q")?.startsWith("cluster:") ?? false);
      await p.getByRole("button", { name: "Form", exact: true }).click();
      await p.getByPlaceholder("value", { exact: true }).waitFor();
    },
  },
  {
    name: "keys",
    path: "/",
    want: [],
    // Esc closes the help, and only that: the page below hears the next keys.
    act: async (p) => {
      await p.getByRole("article").first().waitFor();
      await p.keyboard.press("?");
      await p.getByRole("dialog").getByText("choose the time range").waitFor();
    },
    after: async (p) => {
      await p.keyboard.press("Escape");
      await p.getByRole("dialog").waitFor({ state: "detached" });
      await p.keyboard.press("g");
      await p.keyboard.press("i");
      await p.waitForURL((url) => url.pathname === "/incidents");
    },
  },
  {
    name: "palette",
    path: "/",
    want: [],
    // The palette finds an object by name, and Enter opens it.
    act: async (p) => {
      await p.getByRole("article").first().waitFor();
      await p.keyboard.press("/");
      await p.getByRole("combobox").fill(workload);
      await p.getByRole("option").first().waitFor();
    },
    after: async (p) => {
      await p.keyboard.press("Enter");
      await p.waitForURL((url) => url.pathname !== "/");
    },
  },
];

// Gzipped, until the overview is idle: what a first visit waits for.
const maxScriptBytes = 350 * 1024;

await mkdir(args.out, { recursive: true });
const browser = await launch(args.chromium);

const failures = [];
const only = args.only?.split(",");
try {
  if (!only) {
    const bytes = await weigh();
    console.log(`${bytes <= maxScriptBytes ? "ok  " : "FAIL"} the overview transfers ${(bytes / 1024).toFixed(0)} KiB of script`);
    if (bytes > maxScriptBytes) failures.push(`overview: ${bytes} bytes of script are over ${maxScriptBytes}`);
  }
  await makeBoard();
  for (const view of args.views.split(",")) {
    const context = await browser.newContext(views[view]);
    for (const page of pages) {
      if (only && !only.includes(page.name)) continue;
      const found = await undisturbed(() => visit(context, page, `${args.out}/${page.name}-${view}.png`));
      for (const f of found) failures.push(`${page.name} (${view}): ${f}`);
      console.log(`${found.length === 0 ? "ok  " : "FAIL"} ${page.name} ${view}${found.map((f) => `\n       ${f}`).join("")}`);
    }
    await context.close();
  }
} finally {
  await browser.close();
}
if (failures.length > 0) {
  console.error(`pages: ${failures.length} failures\n${failures.map((f) => `  ${f}`).join("\n")}`);
  process.exit(1);
}

/** Bytes of script, as they come over the wire, until the overview is idle. */
async function weigh() {
  const context = await browser.newContext(views["desktop-light"]);
  const p = await context.newPage();
  const cdp = await context.newCDPSession(p);
  await cdp.send("Network.enable");
  const scripts = new Set();
  let bytes = 0;
  cdp.on("Network.responseReceived", (e) => {
    if (e.type === "Script" || e.response.mimeType.includes("javascript")) scripts.add(e.requestId);
  });
  cdp.on("Network.loadingFinished", (e) => {
    if (scripts.has(e.requestId)) bytes += e.encodedDataLength;
  });
  await p.goto(base, { waitUntil: "networkidle", timeout });
  await context.close();
  return bytes;
}

/** Scrolls through the page and back: charts are drawn when they come into view, and a picture shows the whole page. */
async function through(p) {
  await p.evaluate(async () => {
    for (let y = 0; y < document.documentElement.scrollHeight; y += 600) {
      globalThis.scrollTo(0, y);
      await new Promise((done) => setTimeout(done, 30));
    }
    globalThis.scrollTo(0, 0);
  });
}

/** Waits for what a page must show, also further down. */
async function shows(p, want, still) {
  for (const until = Date.now() + timeout; ; ) {
    try {
      await want.see(p).waitFor({ timeout: 1000 });
      return true;
    } catch {
      if (Date.now() > until) return false;
      if (!still) await through(p);
    }
  }
}

async function visit(context, { path, want, act, after, expected = [], alerts: mayAlert = false }, file) {
  const found = [];
  const p = await context.newPage();
  p.on("console", (m) => {
    if (m.type() === "error" && !expected.some((status) => m.text().includes(`status of ${status}`))) found.push(`console: ${m.text()}`);
  });
  p.on("pageerror", (e) => found.push(`error: ${e.message}`));
  p.on("response", (r) => {
    if (r.status() >= 400 && !expected.includes(r.status())) found.push(`HTTP ${r.status()}: ${r.url().replace(base, "")}`);
  });
  p.on("requestfailed", (r) => {
    // A request that the page itself gave up, for example when the range changed.
    if (r.failure()?.errorText !== "net::ERR_ABORTED") found.push(`${r.failure()?.errorText}: ${r.url().replace(base, "")}`);
  });
  try {
    await p.goto(base + path, { waitUntil: "domcontentloaded", timeout });
    await p.getByRole("heading", { level: 1 }).waitFor({ timeout });
    await act?.(p);
    for (const w of want) {
      if (!(await shows(p, w, Boolean(act)))) found.push(`does not show ${w.what}`);
    }
    if (!act) await through(p);
    // Nothing may still be loading when the picture is taken.
    await p.waitForFunction(() => document.querySelectorAll("[data-visible=true].mantine-Skeleton-root, [aria-busy=true]").length === 0, undefined, { timeout }).catch(() => found.push("is still loading"));
    const alerts = mayAlert ? [] : await p.getByRole("alert").allInnerTexts();
    for (const a of alerts) found.push(`says: ${a.replaceAll("\n", " ")}`);
    const wide = await p.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 1) found.push(`is ${wide} px wider than the window`);
    await p.waitForTimeout(250); // the last chart's first frame
    found.push(...(await accessibility(p)));
    await p.screenshot({ path: file, fullPage: !act });
    await after?.(p);
  } catch (e) {
    found.push(e instanceof Error ? e.message.split("\n")[0] : String(e));
  }
  await p.close();
  return found;
}
