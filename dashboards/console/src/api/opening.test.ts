import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { openPage } from "./opening";

beforeEach(() => vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function page() {
  const kept = new Map<string, string>();
  return {
    say: vi.fn(),
    reload: vi.fn(),
    storage: { getItem: (k: string) => kept.get(k) ?? null, setItem: (k: string, v: string) => void kept.set(k, v), removeItem: (k: string) => void kept.delete(k) },
    url: "http://console.test/",
    kept,
  };
}
const never = new Promise<unknown>(() => undefined);
const gone = () => Promise.reject<unknown>(new TypeError("Failed to fetch dynamically imported module"));

it("leaves a page alone whose scripts came", async () => {
  const p = page();
  p.kept.set("crowsnest.openings", "2");
  await openPage(Promise.resolve(), p);
  await vi.advanceTimersByTimeAsync(300_000);
  expect(p.say).not.toHaveBeenCalled();
  expect(p.reload).not.toHaveBeenCalled();
  expect(p.kept.size).toBe(0);
});

it.each([
  ["did not come", gone, 0],
  ["never came to an end", () => never, 30_000],
])("loads a page anew whose scripts %s, once the server gives it", async (_, scripts, patient) => {
  const p = page();
  const fetched = vi
    .fn<typeof fetch>()
    .mockRejectedValueOnce(new TypeError("connection refused"))
    .mockResolvedValueOnce(new Response("starting", { status: 503 }))
    .mockResolvedValue(new Response("<!doctype html>"));
  vi.stubGlobal("fetch", fetched);
  void openPage(scripts(), p);
  await vi.advanceTimersByTimeAsync(patient + 1);
  expect(p.say).toHaveBeenCalledOnce();
  await vi.advanceTimersByTimeAsync(4001);
  expect(p.reload).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(2000);
  expect(p.reload).toHaveBeenCalledOnce();
  expect(fetched).toHaveBeenCalledTimes(3);
});

it("waits longer each time, so that what stays wrong is no storm", async () => {
  vi.stubGlobal("fetch", vi.fn(() => Promise.resolve(new Response("<!doctype html>"))));
  const p = page();
  let waited = 0;
  for (let i = 1; i <= 4; i++) {
    void openPage(gone(), p);
    const began = Date.now();
    while (p.reload.mock.calls.length < i) await vi.advanceTimersByTimeAsync(500);
    expect(Date.now() - began).toBeGreaterThan(waited);
    waited = Date.now() - began;
  }
});

it("asks again when the server takes the question and never answers", async () => {
  const p = page();
  vi.stubGlobal("fetch", vi.fn((_: string, init?: RequestInit) => new Promise((_resolve, reject) => init?.signal?.addEventListener("abort", () => reject(new DOMException("", "AbortError"))))));
  void openPage(gone(), p);
  await vi.advanceTimersByTimeAsync(30_000);
  expect(p.reload).not.toHaveBeenCalled();
  vi.stubGlobal("fetch", vi.fn(() => Promise.resolve(new Response("<!doctype html>"))));
  await vi.advanceTimersByTimeAsync(10_000);
  expect(p.reload).toHaveBeenCalledOnce();
});
