import { expect, it } from "vitest";
import { help } from "@/i18n/help";
import { linked } from "./model";

const image = (file: string) => (file === "images/a.png" ? "/assets/a-1.png" : undefined);

it.each([
  ["README", '<a href="concepts.md">', '<a href="/help/concepts">'],
  ["README", '<a href="reference/api.md#policy">', '<a href="/help/reference/api#policy">'],
  ["reference/metrics", '<a href="../policies.md">', '<a href="/help/policies">'],
  ["reference/metrics", '<a href="presets.md">', '<a href="/help/reference/presets">'],
  ["policies", '<a href="#muting">', '<a href="/help/policies#muting">'],
  ["README", '<a href="../deploy/README.md">', "<a>"],
  ["webhooks", '<a href="schemas/x.json">', "<a>"],
  ["README", '<a href="https://example.com/">', '<a href="https://example.com/" target="_blank" rel="noreferrer">'],
  ["README", '<img src="images/a.png" alt="A">', '<img src="/assets/a-1.png" alt="A" loading="lazy">'],
  ["README", '<img src="images/none.png" alt="A">', ""],
  ["README", "<pre><code>x</code></pre>", '<pre tabindex="0"><code>x</code></pre>'],
  ["README", '<h1 id="a">A</h1>\n<p>b</p>', "<p>b</p>"],
])("of %s: %s", (name, html, want) => expect(linked(html, name, image)).toBe(want));

const guides = import.meta.glob<string>(["../../../../../docs/*.md", "../../../../../docs/reference/*.md"], { query: "?raw", import: "default", eager: true });
const listed: readonly string[] = Object.keys(help.names);
const nameOf = (file: string) => file.replace(/^.*\/docs\//, "").replace(/\.md$/, "");
it("lists every guide that there is", () => expect(Object.keys(guides).map(nameOf).filter((n) => !listed.includes(n))).toEqual([]));
it.each(Object.entries(guides).map(([file, text]) => [nameOf(file), text] as const))("has every guide that %s links to", (name, text) => {
  const links = [...text.matchAll(/\]\(([^)#\s]+\.md)(?:#[^)]*)?\)/g)].map((found) => linked(`<a href="${found[1] ?? ""}">`, name, () => undefined));
  expect(links.map((l) => /"\/help\/([^"]+)"/.exec(l)?.[1]).filter((to) => to !== undefined && !listed.includes(to))).toEqual([]);
});
