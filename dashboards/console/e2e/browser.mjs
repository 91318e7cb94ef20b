// What the browser runs share: how Chromium is started, the windows that pages are looked at in, and what
// axe finds of a page.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const phone = { isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
const desktop = { width: 1440, height: 900 };
const wide = { width: 2560, height: 1440 };

export const views = {
  "desktop-light": { viewport: desktop, colorScheme: "light" },
  "desktop-dark": { viewport: desktop, colorScheme: "dark" },
  "wide-light": { viewport: wide, colorScheme: "light" },
  "wide-dark": { viewport: wide, colorScheme: "dark" },
  "small-light": { viewport: { width: 360, height: 740 }, colorScheme: "light", ...phone },
  "phone-light": { viewport: { width: 390, height: 844 }, colorScheme: "light", ...phone },
  "phone-dark": { viewport: { width: 390, height: 844 }, colorScheme: "dark", ...phone },
};

/** Chromium, which calls nobody but the server. */
export const launch = (executablePath) =>
  chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });

// Chromium gives up what is under way, to this machine itself too, whenever a network interface comes or
// goes, as with each pod of a cluster that is tested beside. It says nothing of the console.
const networkChanged = "ERR_NETWORK_CHANGED";

/** Whether a line of the browser's console is an error that the page, or its server, is to blame for. */
export const isComplaint = (m) => m.type() === "error" && !m.text().includes(networkChanged);

/** Looks at a page, and once more when the machine's network changed meanwhile. look gives what it found. */
export async function undisturbed(look) {
  const found = await look();
  return found.some((f) => f.includes(networkChanged)) ? look() : found;
}

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What axe finds serious or critical. It runs from the browser's side, so that the page's policy stays as it is. */
export async function accessibility(p) {
  await p.evaluate(axe);
  const { violations } = await p.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations
    .filter((v) => v.impact === "serious" || v.impact === "critical")
    .map((v) => `axe: ${v.id} (${v.impact}): ${v.help}: ${v.nodes.slice(0, 2).map((n) => n.target.join(" ")).join(", ")}`);
}

/** Waits until nothing on the page is still loading; what takes longer is left to whoever looks for it. */
export async function settled(p, timeout = 30_000) {
  await p.waitForFunction(() => document.querySelectorAll("[data-visible=true].mantine-Skeleton-root, [aria-busy=true]").length === 0, undefined, { timeout }).catch(() => undefined);
  await p.waitForTimeout(300); // the last chart's first frame
}
