// Two stories in Chromium, by clicks only, against a server that has an incident (a simulated one has):
// from the overview to the root cause, taken care of on the way; and a policy that is made with preview and
// backtest, fires, is acknowledged by the link of its message, and is resolved. Fails on any console error.
//
//   node e2e/story.mjs --base http://127.0.0.1:7420 --out DIR [--images DIR] [--chromium PATH] [--timeout SECONDS]
//
// --images takes the screenshots that the guides in docs/ show. Nothing that the stories make is left behind.
import { mkdir } from "node:fs/promises";
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { isComplaint, launch, settled, views } from "./browser.mjs";

const { values: args } = parseArgs({
  options: {
    base: { type: "string", default: "http://127.0.0.1:7420" },
    out: { type: "string" },
    images: { type: "string" },
    chromium: { type: "string", default: "/usr/bin/chromium" },
    timeout: { type: "string", default: "30" },
  },
});
if (!args.out) {
  console.error("story: --out is missing");
  process.exit(2);
}
const base = args.base.replace(/\/$/, "");
const api = `${base}/apis/crowsnest.dev/v1`;
const timeout = Number(args.timeout) * 1000;
// An evaluation comes with each interval, and a message after it.
const patience = Math.max(timeout, 180_000);
const policy = "e2e-story";
const target = "e2e-story";

await mkdir(args.out, { recursive: true });
if (args.images) await mkdir(args.images, { recursive: true });

// What a target gets: the messages, newest last.
const messages = [];
const receiver = createServer((request, response) => {
  let text = "";
  request.on("data", (part) => (text += part));
  request.on("end", () => {
    messages.push(JSON.parse(text));
    response.end();
  });
});
await new Promise((done) => receiver.listen(0, "127.0.0.1", done));

const browser = await launch(args.chromium);
const failures = [];
try {
  await cleanUp();
  await story("from the overview to the root cause", rootCause);
  await story("a policy that fires", policyThatFires);
} finally {
  await cleanUp();
  await browser.close();
  receiver.close();
}
if (failures.length > 0) {
  console.error(`story: ${failures.length} failures`);
  process.exit(1);
}

async function story(name, tell) {
  const context = await browser.newContext(views["desktop-light"]);
  context.setDefaultTimeout(timeout);
  const p = await context.newPage();
  const found = [];
  p.on("console", (m) => isComplaint(m) && found.push(`console: ${m.text()}`));
  p.on("pageerror", (e) => found.push(`error: ${e.message}`));
  try {
    await tell(p);
  } catch (e) {
    found.push(e instanceof Error ? e.message : String(e));
    await p.screenshot({ path: `${args.out}/story-failed.png`, fullPage: true });
  }
  await context.close();
  failures.push(...found);
  console.log(`${found.length === 0 ? "ok  " : "FAIL"} ${name}${found.map((f) => `\n       ${f}`).join("")}`);
}

/** Overview, incidents, one of them: evidence, why, lines of that time, its object; somebody takes care of it. */
async function rootCause(p) {
  await p.goto(base);
  await p.getByRole("article").first().waitFor();
  await settled(p, timeout);
  if (args.images) {
    // A guide shows an overview that has something to say.
    await p.getByRole("table", { name: "incidents" }).locator("[data-index]").first().waitFor({ timeout: patience });
    await p.screenshot({ path: `${args.images}/overview.png` });
  }
  await shot(p, "1-overview");
  await p.getByRole("navigation", { name: "pages" }).getByRole("link", { name: /^Incidents/ }).click();
  const first = p.getByRole("table", { name: "incidents" }).locator("[data-index]").first();
  // A server that was just started has to evaluate for some periods first.
  await first.waitFor({ timeout: patience });
  await first.getByRole("link").click();
  await p.getByRole("region", { name: "What happened" }).waitFor();
  // Whatever the policy asks, metric, expression or lines, its incident shows it.
  await p.getByRole("region", { name: "Evidence" }).getByRole("img", { name: /^chart of / }).first().waitFor();
  const title = await p.getByRole("heading", { level: 1 }).innerText();
  await p.getByRole("button", { name: "Explain step by step" }).click();
  await p.getByText(/judged as of/).waitFor();
  await settled(p, timeout);
  await shot(p, "2-incident");
  // Somebody may take care of it already, as after a run that was cut short.
  const back = p.getByRole("button", { name: "Take the acknowledgement back" });
  if (await back.isVisible()) await back.click();
  await p.getByRole("button", { name: "Acknowledge", exact: true }).click();
  await p.getByLabel("Comment (optional)").fill("looking at it");
  await p.getByRole("dialog").getByRole("button", { name: "Acknowledge" }).click();
  await p.getByRole("button", { name: "Take the acknowledgement back" }).waitFor();
  await p.getByText("looking at it").first().waitFor();
  await p.getByRole("link", { name: "All lines of that time" }).click();
  await p.waitForURL((url) => url.pathname === "/logs" && url.searchParams.has("from"));
  await settled(p, timeout);
  await shot(p, "3-lines");
  await p.goBack();
  await p.getByRole("heading", { level: 1, name: title }).waitFor();
  await p.getByRole("region", { name: "Alerts" }).getByRole("link").first().click();
  await p.waitForURL((url) => url.pathname.startsWith("/clusters/"));
  await settled(p, timeout);
  await shot(p, "4-object");
  // Back goes from tab to tab before it leaves the object.
  for (const name of ["Logs", "Events"]) {
    await p.getByRole("tab", { name, exact: true }).click();
    await p.waitForURL((url) => url.searchParams.get("tab") === name.toLowerCase());
    await settled(p, timeout);
  }
  await p.goBack();
  await p.getByRole("tab", { name: "Logs", exact: true, selected: true }).waitFor();
  await p.goBack();
  await p.waitForURL((url) => url.pathname.startsWith("/clusters/") && !url.searchParams.has("tab"));
  await p.goBack();
  await p.getByRole("button", { name: "Take the acknowledgement back" }).click();
  await p.getByRole("button", { name: "Acknowledge", exact: true }).waitFor();
}

/** A policy on what is always so, so that it fires with the next evaluation. */
async function policyThatFires(p) {
  await post("targets", { kind: "Target", metadata: { name: target }, spec: { type: "webhook", url: `http://127.0.0.1:${receiver.address().port}/` } });
  await p.goto(base);
  await p.getByRole("navigation", { name: "pages" }).getByRole("link", { name: "Policies" }).click();
  await p.getByRole("link", { name: "New policy" }).click();
  await choose(p, "metric", "Node", "CPU used");
  await p.getByRole("textbox", { name: "Name", exact: true }).fill(policy);
  await p.getByLabel("warning threshold").fill("0.001");
  await p.getByLabel("bad periods", { exact: true }).fill("1");
  await p.getByLabel("of the last periods").fill("1");
  await p.getByRole("combobox", { name: "targets", exact: true }).click();
  await p.getByRole("option", { name: target }).click();
  await p.keyboard.press("Escape");
  await p.getByText(/would be judged/).waitFor();
  await p.getByRole("img", { name: /over seven days/ }).waitFor();
  await p.getByText("1 day", { exact: true }).click();
  await p.getByRole("button", { name: "Run the backtest" }).click();
  await p.getByRole("list", { name: "would-be alerts by object" }).waitFor({ timeout: patience });
  await p.getByText(/objects? looked at in/).waitFor();
  await settled(p, timeout);
  await shot(p, "5-policy");
  if (args.images) {
    await p.evaluate(() => globalThis.scrollTo(0, 0));
    await p.waitForTimeout(200);
    await p.screenshot({ path: `${args.images}/new-policy.png` });
  }
  await p.getByRole("button", { name: "Create the policy" }).click();
  await p.waitForURL((url) => url.pathname === `/policies/${policy}`);
  const row = p.getByRole("table", { name: "alerts" }).locator("[data-index]").first();
  await row.waitFor({ timeout: patience });
  await shot(p, "6-fires");
  await row.getByRole("link", { name: "incident" }).click();
  await p.getByRole("button", { name: "Acknowledge", exact: true }).waitFor();
  // It fires on every node, each with an incident of its own.
  await p.getByRole("list", { name: "Similar incidents" }).getByRole("listitem").first().waitFor({ timeout: patience });
  await shot(p, "6-similar");
  const told = await until(() => messages.find((m) => m.type === "incident.firing" && m.incident.acknowledge_url), "a message with a link", patience);
  const incident = p.url();
  // Whoever got the message opens its link: nothing happens until it is confirmed.
  await p.goto(base + new URL(told.incident.acknowledge_url).pathname);
  await p.getByRole("button", { name: "Acknowledge it" }).waitFor();
  await shot(p, "7-link");
  await p.getByRole("button", { name: "Acknowledge it" }).click();
  await p.getByText("Acknowledged. The link is used up.").waitFor();
  await p.reload();
  await p.getByText("This link was used already; it works once.").waitFor();
  await p.goto(incident.replace(/incidents\/.*/, `incidents/${told.incident.id}`));
  await p.getByRole("button", { name: "Take the acknowledgement back" }).waitFor();
  await p.getByRole("button", { name: "Resolve", exact: true }).click();
  await p.getByRole("dialog").getByRole("button", { name: "Resolve" }).click();
  await p.getByText(/^Resolved; it was/).waitFor();
  await shot(p, "8-resolved");
  await until(() => messages.find((m) => m.type === "incident.resolved" && m.incident.id === told.incident.id), "the message that it is resolved", patience);
}

/** Picks an option of a select that has them in groups. */
async function choose(p, label, group, option) {
  await p.getByRole("combobox", { name: label, exact: true }).first().click();
  await p.getByRole("group", { name: group, exact: true }).getByRole("option", { name: option, exact: true }).click();
}

function shot(p, name) {
  return p.screenshot({ path: `${args.out}/story-${name}.png`, fullPage: true });
}

async function until(look, what, within) {
  for (const end = Date.now() + within; Date.now() < end; await new Promise((next) => setTimeout(next, 200))) {
    const found = look();
    if (found) return found;
  }
  throw new Error(`${what} did not come within ${within / 1000} s`);
}

async function post(path, body) {
  const answer = await fetch(`${api}/${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ apiVersion: "crowsnest.dev/v1", ...body }) });
  if (!answer.ok) throw new Error(`POST ${path}: ${answer.status} ${await answer.text()}`);
}

async function cleanUp() {
  await fetch(`${api}/policies/${policy}`, { method: "DELETE" }).catch(() => undefined);
  await fetch(`${api}/targets/${target}`, { method: "DELETE" }).catch(() => undefined);
}
