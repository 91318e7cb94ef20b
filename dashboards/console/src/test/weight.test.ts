import { build, type Rolldown } from "vite";
import { expect, it, vi } from "vitest";

// Gzipped, until the overview is idle: what a first visit waits for.
const most = 350 * 1024;

async function gzipped(code: string): Promise<number> {
  const body = new Blob([code]).stream().pipeThrough(new CompressionStream("gzip"));
  return (await new Response(body).arrayBuffer()).byteLength;
}

it("keeps the scripts of a first visit light", { timeout: 600_000 }, async () => {
  vi.stubEnv("NODE_ENV", "production"); // as a build does: libraries have further parts for tests
  const built = (await build({ logLevel: "silent", build: { write: false } })) as Rolldown.RolldownOutput;
  vi.unstubAllEnvs();
  const page = built.output.find((file) => file.fileName === "index.html");
  const html = page?.type === "asset" ? String(page.source) : "";
  // The page names what it needs before anything has run.
  const named = [...html.matchAll(/(?:src|href)="\/([^"]+\.js)"/g)].map(([, name]) => name);
  expect(named.length).toBeGreaterThan(1);
  const weights = await Promise.all(
    built.output.map(async (file) => [file.fileName, file.type === "chunk" && named.includes(file.fileName) ? await gzipped(file.code) : 0] as const),
  );
  const all = weights.reduce((sum, [, bytes]) => sum + bytes, 0);
  expect(all, JSON.stringify(weights.filter(([, bytes]) => bytes > 0))).toBeGreaterThan(50 * 1024);
  expect(all, JSON.stringify(weights.filter(([, bytes]) => bytes > 0))).toBeLessThanOrEqual(most);
});
