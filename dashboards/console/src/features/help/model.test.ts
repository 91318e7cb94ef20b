import { expect, it } from "vitest";
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
