import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { connection } from "./connection";
import { longest, patience, request } from "./request";

/** A server that never answers, unless the one who asks gives up. */
const hangs = (_: string | Request, init?: RequestInit) =>
  new Promise<Response>((_resolve, reject) => init?.signal?.addEventListener("abort", () => reject(new DOMException("given up", "AbortError"))));

beforeEach(() => {
  vi.useFakeTimers();
  connection.answered(0, true);
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("a server that does not answer", () => {
  it("is said to be away, and a question that reads is given up", async () => {
    vi.spyOn(AbortSignal, "timeout").mockImplementation((ms) => {
      const c = new AbortController();
      setTimeout(() => c.abort(), ms);
      return c.signal;
    });
    vi.stubGlobal("fetch", vi.fn(hangs));
    const asked = request("/apis/x").catch((e: unknown) => e);
    await vi.advanceTimersByTimeAsync(patience - 1);
    expect(connection.get().reachable).toBe(true);
    await vi.advanceTimersByTimeAsync(patience);
    expect(connection.get().reachable).toBe(false);
    await vi.advanceTimersByTimeAsync(longest);
    expect(await asked).toMatchObject({ status: 0, code: "unreachable" });
  });

  it("is not said to be away when only one question takes its time", async () => {
    vi.stubGlobal("fetch", vi.fn((input: string, init?: RequestInit) => (input === "/healthz" ? Promise.resolve(new Response("ok")) : hangs(input, init))));
    void request("/apis/x").catch(() => undefined);
    await vi.advanceTimersByTimeAsync(3 * patience);
    expect(connection.get().reachable).toBe(true);
  });

  it("is waited for by what changes something", async () => {
    const fetched = vi.fn(hangs);
    vi.stubGlobal("fetch", fetched);
    let ended = false;
    void request("/apis/x", { method: "POST" }).catch(() => undefined).finally(() => (ended = true));
    await vi.advanceTimersByTimeAsync(2 * longest);
    expect(ended).toBe(false);
  });
});

it("ends when the one who asked gives up, and says nothing of the server", async () => {
  vi.stubGlobal("fetch", vi.fn(hangs));
  const stop = new AbortController();
  const asked = request("/apis/x", { signal: stop.signal }).catch((e: unknown) => e);
  stop.abort();
  expect(await asked).toBeInstanceOf(DOMException);
  expect(connection.get().reachable).toBe(true);
});
