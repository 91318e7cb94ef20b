// What operators keep on a server, made and used by clicks only: a target with a preview of its messages,
// a route, an inhibition, a silence, a maintenance window with its calendar; a message that is sent again;
// a policy's history; what can be taken from a chart, what it is held against, and of lines; how lines become records; another time zone; a metric found and asked; a board that is exported and imported; a page as home;
// incidents taken care of together; a cluster that is added by the command as shown. Fails on any console error.
//
//   node e2e/forms.mjs --base http://127.0.0.1:7420 --cluster ID --out DIR [--program bin/crowsnest]
//     [--only NAME,NAME] [--chromium PATH] [--timeout SECONDS]
//
// --program simulates the cluster that is added. Nothing that is made is left behind, but for that cluster.
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { accessibility, isComplaint, launch, settled, views } from "./browser.mjs";

const { values: args } = parseArgs({
  options: {
    base: { type: "string", default: "http://127.0.0.1:7420" },
    cluster: { type: "string", default: "simulated" },
    out: { type: "string" },
    program: { type: "string" },
    only: { type: "string" },
    chromium: { type: "string", default: "/usr/bin/chromium" },
    timeout: { type: "string", default: "30" },
  },
});
if (!args.out) {
  console.error("forms: --out is missing");
  process.exit(2);
}
const base = args.base.replace(/\/$/, "");
const api = `${base}/apis/crowsnest.dev/v1`;
const timeout = Number(args.timeout) * 1000;
// A round of evaluation, and a message after it.
const patience = Math.max(timeout, 180_000);
const name = "e2e-forms";
const added = "e2e-added";
// What was deleted keeps its history, under its name: each run has a policy of its own.
const policy = `${name}-${Date.now().toString(36)}`;
const comment = "by the forms";
const day = 86_400;
const kinds = ["routes", "inhibitions", "maintenances", "boards", "targets"];

await mkdir(args.out, { recursive: true });
const work = await mkdtemp(join(tmpdir(), "forms-"));

// Where the target's messages go.
const bodies = [];
const receiver = createServer((request, response) => {
  let text = "";
  request.on("data", (part) => (text += part));
  request.on("end", () => {
    bodies.push(text);
    response.end();
  });
});
await new Promise((done) => receiver.listen(0, "127.0.0.1", done));

const stories = { told, history, charts, lines, rules, zone, explore, boards, home, together, adding };
const browser = await launch(args.chromium);
const failures = [];
try {
  await cleanUp();
  for (const [what, tell] of Object.entries(stories)) {
    if (!args.only || args.only.split(",").includes(what)) await story(what, tell);
  }
} finally {
  await cleanUp();
  await browser.close();
  receiver.close();
  await rm(work, { recursive: true, force: true });
}
if (failures.length > 0) {
  console.error(`forms: ${failures.length} failures`);
  process.exit(1);
}

async function story(what, tell) {
  const context = await browser.newContext({ ...views["desktop-light"], permissions: ["clipboard-read", "clipboard-write"], acceptDownloads: true });
  context.setDefaultTimeout(timeout);
  const p = await context.newPage();
  const found = [];
  const pardoned = [];
  p.on("console", (m) => isComplaint(m) && !pardoned.some((words) => m.text().includes(words)) && found.push(`console: ${m.text()}`));
  p.on("pageerror", (e) => found.push(`error: ${e.message}`));
  p.on("dialog", (d) => void d.accept());
  try {
    await tell(p, (words) => pardoned.push(words));
  } catch (e) {
    found.push(e instanceof Error ? e.message : String(e));
    await p.screenshot({ path: `${args.out}/forms-${what}-failed.png`, fullPage: true });
  }
  await context.close();
  failures.push(...found);
  console.log(`${found.length === 0 ? "ok  " : "FAIL"} ${what}${found.map((f) => `\n       ${f}`).join("")}`);
}

/** Who is told: a target, routes, what mutes; and a message that is sent again. */
async function told(p) {
  await p.goto(`${base}/notifications`);
  await p.getByRole("button", { name: "New target" }).click();
  const dialog = p.getByRole("dialog");
  await dialog.getByLabel("Name", { exact: true }).fill(name);
  await dialog.getByLabel("Address").fill(`http://127.0.0.1:${receiver.address().port}/`);
  await dialog.getByLabel("Format of the body").selectOption("template");
  await dialog.getByLabel("Template", { exact: true }).fill('{"text": "{{ .incident.title }}"}');
  await dialog.getByText(/"text": "/).last().waitFor();
  await shot(p, "1-target");
  await dialog.getByRole("button", { name: "Make it" }).click();
  await dialog.getByText(`${name} is there.`).waitFor();
  await dialog.getByRole("button", { name: "Send a test message" }).click();
  await dialog.getByText(/is on its way/).waitFor();
  await until(() => bodies.some((b) => JSON.parse(b).text), "the test message by the template");
  await dialog.getByRole("button", { name: "Close" }).first().click();
  await row(p, "targets", name).waitFor();

  await p.getByRole("tab", { name: "Deliveries" }).click();
  await row(p, "deliveries", name).getByRole("button", { name: /^Open the attempts/ }).click();
  const before = bodies.length;
  await shot(p, "2-delivery");
  await dialog.getByRole("button", { name: "Send again, with the same id" }).click();
  await until(() => bodies.length > before, "the message that was sent again");
  await p.keyboard.press("Escape");

  await p.getByRole("tab", { name: "Routes" }).click();
  await p.getByRole("button", { name: "New route" }).click();
  await dialog.getByLabel("Name", { exact: true }).fill(name);
  await tags(dialog, "Matchers", `namespace="no-such-namespace"`);
  await pick(p, dialog, "Severities", "critical");
  await pick(p, dialog, "Targets", name);
  await shot(p, "3-route");
  await dialog.getByRole("button", { name: "Make it" }).click();
  await row(p, "routes", name).getByText(/no-such-namespace.*critical/).waitFor();
  await row(p, "routes", name).getByRole("button", { name: `Edit ${name}` }).click();
  await dialog.getByLabel("Order").fill("20");
  await dialog.getByRole("button", { name: "Save" }).click();
  await row(p, "routes", name).getByText("20", { exact: true }).waitFor();
  await row(p, "routes", name).getByRole("button", { name: `Delete ${name}` }).click();
  await row(p, "routes", name).waitFor({ state: "detached" });

  await p.getByRole("tab", { name: "Inhibitions" }).click();
  await p.getByRole("button", { name: "New inhibition" }).click();
  await dialog.getByLabel("Name", { exact: true }).fill(name);
  await tags(dialog, "While this fires", `policy="no-such-policy"`);
  await tags(dialog, "Mutes", `policy="nor-this-one"`);
  await shot(p, "4-inhibition");
  await dialog.getByRole("button", { name: "Make it" }).click();
  await row(p, "inhibitions", name).getByText(/nor-this-one/).waitFor();
  await row(p, "inhibitions", name).getByRole("button", { name: `Delete ${name}` }).click();
  await row(p, "inhibitions", name).waitFor({ state: "detached" });

  await p.getByRole("tab", { name: "Silences" }).click();
  await p.getByRole("button", { name: "New silence" }).click();
  await tags(dialog, "Matchers", `namespace="no-such-namespace"`);
  await dialog.getByLabel("Hours").fill("3");
  await dialog.getByLabel("Comment").fill(comment);
  await dialog.getByRole("button", { name: "Silence", exact: true }).click();
  const silence = row(p, "silences", comment).filter({ hasText: "active" });
  await silence.first().waitFor();
  await p.getByRole("navigation", { name: "pages" }).getByRole("link", { name: "Overview", exact: true }).click();
  // What is muted, and until when, stands where everybody looks.
  await p.getByText(/silences? active, the last until \d/).waitFor();
  await shot(p, "5-silence");
  await p.goto(`${base}/notifications?tab=silences`);
  await silence.first().getByRole("button", { name: /^End / }).click();
  await silence.first().waitFor({ state: "detached" });

  await p.getByRole("tab", { name: "Maintenance" }).click();
  await p.getByRole("button", { name: "New window" }).click();
  await dialog.getByLabel("Name", { exact: true }).fill(name);
  await tags(dialog, "Matchers", `namespace="no-such-namespace"`);
  await pick(p, dialog, "On days", "Sunday");
  await dialog.getByText("The next windows, in your time:").waitFor();
  await until(async () => (await dialog.getByText(/, for 1 h$/).count()) > 1, "the next windows");
  await shot(p, "6-window");
  await dialog.getByRole("button", { name: "Make the window" }).click();
  await row(p, "maintenance windows", "no-such-namespace").getByRole("button", { name: `Delete ${name}` }).click();
  await row(p, "maintenance windows", "no-such-namespace").waitFor({ state: "detached" });
}

/** A policy that is changed twice: who did what, line by line. */
async function history(p) {
  await post("policies", { kind: "Policy", metadata: { name: policy }, spec: { level: "node", conditions: [{ metric: "k8s_node_cpu_usage", statistic: "avg", period: "1m", op: ">", thresholds: { warning: 99.5 }, need: 1, of: 1 }] } });
  await p.goto(`${base}/policies/${policy}`);
  await p.getByRole("link", { name: "Change" }).click();
  await p.getByLabel("warning threshold").fill("99.8");
  await p.getByRole("button", { name: "Save", exact: true }).click();
  await p.waitForURL((url) => url.pathname === `/policies/${policy}`);
  await p.getByText("Revision 2", { exact: true }).waitFor();
  await p.getByRole("button", { name: "What changed" }).first().click();
  const text = async () => p.getByRole("region", { name: "History" }).or(p.locator("section").filter({ hasText: "Revision 2" })).first().innerText();
  await until(async () => /99\.5/.test(await text()) && /99\.8/.test(await text()), "the difference of the two revisions");
  await shot(p, "7-history");
}

/** What can be taken from a chart. */
async function charts(p) {
  await p.goto(`${base}/clusters/${encodeURIComponent(args.cluster)}`);
  await p.locator("[aria-label^='chart of'] canvas").first().waitFor();
  const section = p.locator("section[aria-label]").filter({ has: p.locator("canvas") }).first();
  const menu = async (item) => {
    await section.getByRole("button", { name: /^take from the chart/ }).click();
    await p.getByRole("menuitem", { name: item }).click();
  };
  const download = async (item) => {
    const [file] = await Promise.all([p.waitForEvent("download"), menu(item)]);
    const path = join(work, file.suggestedFilename());
    await file.saveAs(path);
    return readFile(path);
  };
  const table = (await download("Save as CSV")).toString().trim().split("\n");
  if (!table[0].startsWith("time,") || table.length < 3) throw new Error(`the CSV is ${table.length} lines and begins ${table[0]}`);
  const png = await download("Save as PNG");
  if (png.subarray(1, 4).toString() !== "PNG" || png.length < 5000) throw new Error(`the PNG has ${png.length} bytes`);
  await writeFile(`${args.out}/forms-8-chart.png`, png);
  const clipboard = () => p.evaluate(() => navigator.clipboard.readText());
  await menu("Copy PromQL");
  await until(async () => /k8s_cluster_.*_over_time|_over_time\(k8s_cluster_/.test(await clipboard()), "the query in the clipboard");
  await menu("Copy a link to this time");
  await until(async () => /from=\d{4}.*to=\d{4}/.test(decodeURIComponent(await clipboard())), "the link in the clipboard");
  // By keyboard: the first item has the focus, arrows walk from end to end, Escape gives the focus back.
  const button = section.getByRole("button", { name: /^take from the chart/ });
  const items = p.getByRole("menuitem");
  await button.focus();
  await p.keyboard.press("Enter");
  await focused(items.first(), "the menu's first item");
  const serious = await accessibility(p);
  if (serious.length > 0) throw new Error(`with a chart's menu open:\n${serious.join("\n")}`);
  await p.keyboard.press("ArrowDown");
  await focused(items.nth(1), "the menu's second item");
  await p.keyboard.press("ArrowUp");
  await p.keyboard.press("ArrowUp");
  await focused(items.last(), "the menu's last item");
  await p.keyboard.press("Escape");
  await items.first().waitFor({ state: "detached" });
  await focused(button, "the menu's button");

  // An hour that stands, so that the API can be asked for the same one.
  const end = Math.floor(Date.now() / 60_000) * 60 - 600;
  await p.goto(`${base}/clusters/${encodeURIComponent(args.cluster)}?${new URLSearchParams({ from: rfc3339(end - 3600), to: rfc3339(end) })}`);
  await p.locator("[aria-label^='chart of'] canvas").first().waitFor();
  await p.getByRole("button", { name: /^time range/ }).click();
  await p.getByText("yesterday", { exact: true }).click();
  await p.waitForURL((url) => url.searchParams.get("compare") === "1d");
  await p.keyboard.press("Escape");
  // The range's button says what it is held against.
  await p.getByText("and yesterday").waitFor();
  const past = section.getByRole("row").filter({ hasText: "a day before" });
  await past.first().waitFor();
  await settled(p, timeout);
  await shot(p, "9-compared");
  const [head, ...rows] = (await download("Save as CSV")).toString().trim().split("\n").map((l) => l.split(/,(?! )/).map((cell) => cell.replace(/^"|"$/g, "")));
  await menu("Copy PromQL");
  const queries = await clipboard().then((text) => text.split("\n"));
  const columns = head.flatMap((name, i) => (name.endsWith(", a day before") ? [i] : []));
  if (columns.length !== queries.length) throw new Error(`of ${queries.length} queries ${columns.length} are there a day before: ${head}`);
  const [first, second] = rows.map(([time]) => Date.parse(time) / 1000);
  for (const [k, query] of queries.entries()) {
    const name = head[columns[k]];
    const asked = new URLSearchParams({ query, start: first - day, end: Date.parse(rows.at(-1)[0]) / 1000 - day, step: second - first });
    const { data } = await (await fetch(`${base}/api/v1/query_range?${asked}`)).json();
    const values = data.result[0].values.map(([t, v]) => [t + day, Number(v)]);
    const shown = new Map(rows.map((r) => [Date.parse(r[0]) / 1000, r[columns[k]]]));
    const other = values.filter(([t, v]) => Math.abs(Number(shown.get(t)) - v) > 1e-9 * Math.abs(v) || shown.get(t) === "");
    if (values.length < 20 || other.length > 0) throw new Error(`${name}: of ${values.length} values of the API ${other.length} are others, first ${other[0]}, shown as ${shown.get(other[0]?.[0])}`);
    const numbers = values.map(([, v]) => v);
    const title = await past.nth(k).getAttribute("title");
    for (const [word, v] of [["min", Math.min(...numbers)], ["max", Math.max(...numbers)], ["last", numbers.at(-1)]]) {
      const text = new RegExp(`${word} ([\\d.,]+)`).exec(title)?.[1].replaceAll(",", "") ?? "";
      const exact = 10 ** -(text.split(".")[1]?.length ?? 0);
      if (!(Math.abs(Number(text) - v) <= exact / 2 + 1e-9)) throw new Error(`${name}: the legend says ${title}, where ${word} is ${v}`);
    }
  }
}

/** Lines of a range, as files. */
async function lines(p) {
  const list = p.getByRole("list", { name: "log lines" });
  await p.goto(`${base}/logs?${new URLSearchParams({ from: "now-10m", to: "now", cluster: args.cluster })}`);
  await list.getByRole("listitem").first().waitFor();
  const download = async (item) => {
    await p.getByRole("button", { name: "Download" }).click();
    const [file] = await Promise.all([p.waitForEvent("download"), p.getByRole("menuitem", { name: item }).click()]);
    const path = join(work, file.suggestedFilename());
    await file.saveAs(path);
    return { name: file.suggestedFilename(), text: (await readFile(path)).toString() };
  };
  const plain = await download("All lines of the range as text");
  if (!/^logs-.*\.log$/.test(plain.name) || !/^\d{4}-\d\d-\d\dT\S+Z \S+\/\S+\/\S+ /.test(plain.text)) throw new Error(`${plain.name} begins ${plain.text.slice(0, 120)}`);
  const json = await download("All lines of the range as JSON lines");
  const rows = json.text.trim().split("\n").map((l) => JSON.parse(l));
  if (!/^logs-.*\.jsonl$/.test(json.name) || rows.some((r) => r._time === undefined || r._msg === undefined || r.cluster !== args.cluster)) throw new Error(`${json.name} has records without time, text or cluster`);
}

/** How lines become records, said for some containers. */
async function rules(p, pardon) {
  pardon("status of 422"); // to which Chromium objects, and which is asked for below
  const page = `${base}/clusters/${encodeURIComponent(args.cluster)}?tab=log-rules`;
  const settings = `${api}/clusters/${encodeURIComponent(args.cluster)}/settings`;
  const { settings: before } = await (await fetch(settings)).json();
  const save = p.getByRole("button", { name: "Save", exact: true });
  const rule = p.getByRole("group", { name: /^Rule \d+$/ }).last();
  const field = (label) => rule.getByLabel(label, { exact: true });
  const begins = "A record begins with a line that matches (RE2)";
  try {
    await p.goto(page);
    await p.getByRole("button", { name: "Add a rule" }).click();
    await field("Namespaces").fill("no-such-namespace, !kube-*");
    await field("Containers").fill("app");
    await field(begins).fill("^(\\d");
    await save.click();
    // What is wrong is said at the field that it is wrong in, and nothing of it was kept.
    await until(async () => (await field(begins).getAttribute("aria-invalid")) === "true", "the refusal of a pattern that is none");
    await rule.getByText(/missing closing \)/).waitFor();
    await shot(p, "16-rule-refused");
    const kept = async () => (await (await fetch(settings)).json()).settings.log_rules?.multiline ?? [];
    if ((await kept()).length !== (before.log_rules?.multiline ?? []).length) throw new Error("the rule that was refused was kept");
    await field(begins).fill("^\\d{4}-");
    await save.click();
    await until(async () => (await kept()).some((m) => m.start === "^\\d{4}-"), "the rule on the server");
    if ((await field(begins).getAttribute("aria-invalid")) === "true") throw new Error("the rule is still refused where it was taken");
    await p.reload();
    await until(async () => (await field(begins).inputValue()) === "^\\d{4}-", "the rule after a reload");
    const shown = await Promise.all(["Namespaces", "Workloads", "Containers"].map((label) => field(label).inputValue()));
    if (shown.join("|") !== "no-such-namespace, !kube-*||app") throw new Error(`the rule came back as ${shown.join("|")}`);
    await shot(p, "17-rule");
  } finally {
    const { version } = await (await fetch(settings)).json();
    await fetch(settings, { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ version, settings: before }) });
  }
}

/** Times in another zone than the browser's, all over the page. */
async function zone(p) {
  const list = p.getByRole("list", { name: "log lines" });
  // Half an hour off whatever zone this machine is in.
  const range = new URLSearchParams({ from: "now-10m", to: "now", cluster: args.cluster });
  await p.goto(`${base}/logs?${range}`);
  const minute = async () => Number(/\d\d:(\d\d):/.exec(await list.getByRole("listitem").first().innerText())?.[1]);
  await list.getByRole("listitem").first().waitFor();
  await p.getByRole("button", { name: /^time range/ }).click();
  const choice = p.getByLabel("Time zone").first();
  await choice.click();
  await choice.fill("Adelaide");
  await Promise.all([p.waitForEvent("load"), p.getByRole("option", { name: "Australia/Adelaide" }).first().click()]);
  await list.getByRole("listitem").first().waitFor();
  // The newest line is some minutes old at most.
  const there = (new Date().getUTCMinutes() + 30) % 60;
  const old = (there - (await minute()) + 60) % 60;
  if (!(old <= 11)) throw new Error(`the newest line is of minute ${await minute()}, where it is minute ${there}`);
  await p.evaluate(() => localStorage.removeItem("crowsnest.zone"));
}

/** A metric that somebody knows by its words, and a value of one of its labels. */
async function explore(p) {
  await p.goto(`${base}/explore`);
  await p.getByLabel("find a metric").fill("k8s_node_cpu_usage");
  await p.getByTitle("k8s_node_cpu_usage", { exact: true }).click();
  await p.getByRole("button", { name: "cluster", exact: true }).click();
  await p.getByRole("list", { name: /cluster/ }).getByRole("button", { name: args.cluster, exact: true }).click();
  await until(async () => (await p.locator(".cm-content").first().innerText()).includes(`k8s_node_cpu_usage{cluster="${args.cluster}"}`), "the narrowed metric in the query");
  await p.getByRole("button", { name: "Show it" }).click();
  await p.waitForURL((url) => url.searchParams.get("q")?.startsWith("k8s_node_cpu_usage") ?? false);
  await p.locator("canvas").first().waitFor();
  await shot(p, "14-explore");
}

/** A chart that is pinned, and its board on its way to another server and back. */
async function boards(p) {
  await p.goto(`${base}/clusters/${encodeURIComponent(args.cluster)}`);
  await p.locator("[aria-label^='chart of'] canvas").first().waitFor();
  await p.getByRole("button", { name: /^take from the chart/ }).first().click();
  await p.getByRole("menuitem", { name: "Pin to a board" }).click();
  const dialog = p.getByRole("dialog");
  await dialog.getByRole("button", { name: "Pin", exact: true }).waitFor();
  if (!(await dialog.getByLabel("The new board’s title").isVisible())) {
    await dialog.getByRole("combobox", { name: "Board", exact: true }).click();
    await p.getByRole("option", { name: "A new board…" }).click();
  }
  await dialog.getByLabel("The new board’s title").fill(name);
  await dialog.getByRole("button", { name: "Pin", exact: true }).click();
  await dialog.getByRole("link", { name: "Open the board" }).click();
  await p.getByRole("heading", { level: 1, name }).waitFor();
  await p.locator("[aria-label^='chart of'] canvas").first().waitFor();
  const [file] = await Promise.all([p.waitForEvent("download"), p.getByRole("button", { name: "Export" }).click()]);
  const path = join(work, "board.json");
  await file.saveAs(path);
  const board = JSON.parse((await readFile(path)).toString());
  if (board.kind !== "Board" || board.spec?.title !== name || board.spec.panels.length !== 1) throw new Error(`the board's file is ${JSON.stringify(board).slice(0, 200)}`);
  await p.getByRole("button", { name: "Delete" }).click();
  await p.waitForURL((url) => url.pathname === "/boards");
  const [chooser] = await Promise.all([p.waitForEvent("filechooser"), p.getByRole("button", { name: "Import" }).click()]);
  await chooser.setFiles(path);
  await p.waitForURL((url) => url.pathname === `/boards/${name}`);
  await p.locator("[aria-label^='chart of'] canvas").first().waitFor();
  await settled(p, timeout);
  await shot(p, "10-board");
}

/** A page that somebody wants to see first. */
async function home(p) {
  await p.goto(`${base}/clusters/${encodeURIComponent(args.cluster)}?tab=workloads&filter=shop`);
  await p.getByRole("table", { name: "workloads" }).locator("[data-index]").first().waitFor();
  await palette(p, "home", "Make this page my home");
  await p.goto(base);
  await p.waitForURL((url) => url.searchParams.get("filter") === "shop");
  await p.getByRole("table", { name: "workloads" }).locator("[data-index]").first().waitFor();
  await shot(p, "11-home");
  await palette(p, "home", "Make the overview my home again");
  await p.goto(base);
  await p.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
}

/** Several incidents at once. */
async function together(p) {
  await p.goto(`${base}/incidents`);
  const table = p.getByRole("table", { name: "incidents" });
  await table.locator("[data-index]").first().waitFor({ timeout: patience });
  await p.getByRole("button", { name: "select all that are shown" }).click();
  await shot(p, "12-selected");
  await p.getByRole("button", { name: "Acknowledge", exact: true }).click();
  await p.getByText(/^Done with/).first().waitFor();
  await p.getByText("acknowledged", { exact: true }).first().click();
  await table.locator("[data-index]").first().waitFor();
  await shot(p, "13-acknowledged");
  const { items } = await (await fetch(`${api}/incidents?state=active`)).json();
  for (const i of items) await fetch(`${api}/incidents/${i.id}/unacknowledge`, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
}

/** The command as shown, and the page that turns live when data comes. */
async function adding(p) {
  await p.goto(`${base}/settings`);
  await p.getByLabel("Cluster id").fill(added);
  await p.getByRole("button", { name: "Make the command" }).click();
  const command = await p.locator("code", { hasText: "crowsnest-collector" }).first().innerText();
  const [, token] = /--token (\S+)/.exec(command) ?? [];
  if (!token || !command.includes(`--server ${base}`)) throw new Error(`the command is ${command}`);
  await shot(p, "14-added");
  if (!args.program) return;
  const file = join(work, "token");
  await writeFile(file, `${token}\n`, { mode: 0o600 });
  const collector = spawn(args.program, ["simulate", "--nodes", "2", "--pods-per-node", "5", "--interval", "10s", "--server", base, "--token-file", file], { stdio: "ignore" });
  try {
    await p.getByRole("link", { name: added }).first().waitFor({ timeout: patience });
    await shot(p, "15-arrived");
  } finally {
    collector.kill();
    await new Promise((done) => (collector.exitCode === null ? collector.once("exit", done) : done()));
  }
}

/** The palette's action whose name has the words. */
async function palette(p, words, action) {
  await p.keyboard.press("Control+k");
  await p.getByRole("combobox").fill(words);
  await p.getByRole("option", { name: action }).click();
  await p.getByRole("combobox").waitFor({ state: "detached" });
}

function row(p, table, text) {
  return p.getByRole("table", { name: table }).locator("[data-index]").filter({ hasText: text }).first();
}

/** Types into a field of tags. */
async function tags(dialog, label, text) {
  const field = dialog.getByRole("combobox", { name: label }).or(dialog.getByLabel(label)).first();
  await field.fill(text);
  await field.press("Enter");
}

/** Chooses of a list. */
async function pick(p, dialog, label, option) {
  await dialog.getByRole("combobox", { name: label }).or(dialog.getByLabel(label)).first().click({ force: true }); // its frame lies over the field
  await p.locator("[data-combobox-option]:visible").filter({ hasText: option }).first().click();
  await p.keyboard.press("Tab");
}

async function focused(locator, what) {
  await until(() => locator.evaluate((e) => e === document.activeElement), `the focus on ${what}`);
}

function rfc3339(seconds) {
  return new Date(seconds * 1000).toISOString();
}

function shot(p, what) {
  return p.screenshot({ path: `${args.out}/forms-${what}.png` });
}

async function until(look, what, within = timeout) {
  for (const end = Date.now() + within; Date.now() < end; await new Promise((next) => setTimeout(next, 200))) {
    if (await look()) return;
  }
  throw new Error(`${what} did not come within ${within / 1000} s`);
}

async function post(path, body) {
  const answer = await fetch(`${api}/${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ apiVersion: "crowsnest.dev/v1", ...body }) });
  if (!answer.ok) throw new Error(`POST ${path}: ${answer.status} ${await answer.text()}`);
}

async function cleanUp() {
  for (const kind of kinds) await fetch(`${api}/${kind}/${name}`, { method: "DELETE" }).catch(() => undefined);
  await fetch(`${api}/policies/${policy}`, { method: "DELETE" }).catch(() => undefined);
  const silences = await fetch(`${api}/silences`).then((answer) => answer.json()).catch(() => ({ items: [] }));
  for (const s of silences.items) if (s.spec.comment === comment) await fetch(`${api}/silences/${s.metadata.name}`, { method: "DELETE" }).catch(() => undefined);
}
