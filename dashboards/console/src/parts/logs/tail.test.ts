import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { drawMillis, Tail } from "./tail";

const rows = (n: number, from = 0) => Array.from({ length: n }, (_, i) => ({ _time: String(from + i), _msg: `line ${from + i}` }));

beforeEach(() => vi.useFakeTimers({ now: 0 }));
afterEach(() => vi.useRealTimers());
const drawn = () => vi.advanceTimersByTime(drawMillis);

it("shows the newest first", () => {
  const tail = new Tail();
  tail.add(rows(2), 0);
  tail.add(rows(1, 2), 100);
  drawn();
  expect(tail.get().rows.map((r) => r._time)).toEqual(["2", "1", "0"]);
});

it("holds lines while paused, and counts those that do not fit", () => {
  const tail = new Tail();
  tail.pause(true);
  tail.add(rows(1240), 0);
  drawn();
  expect(tail.get()).toMatchObject({ rows: [], waiting: 1000, notDrawn: 240 });
  tail.pause(false);
  expect(tail.get()).toMatchObject({ waiting: 0, notDrawn: 240 });
  expect(tail.get().rows[0]?._time).toBe("1239");
});

it("says the rate of the last seconds", () => {
  const tail = new Tail();
  tail.add(rows(50), 0);
  drawn();
  expect(tail.get().rate).toBe(10);
  vi.setSystemTime(9000);
  tail.add(rows(5), 9000);
  drawn();
  expect(tail.get().rate).toBe(1);
});

it("draws four times a second at most, however fast lines come, and loses count of none", () => {
  const tail = new Tail();
  const told = vi.fn();
  tail.subscribe(told);
  // Ten seconds of 20,000 lines/s in chunks of 200.
  for (let chunk = 0; chunk < 1000; chunk++) {
    tail.add(rows(200, chunk * 200), chunk * 10);
    vi.advanceTimersByTime(10);
  }
  drawn();
  expect(tail.get().rate).toBeGreaterThan(18_000);
  // A draw tells of the figures and of the rows.
  expect(told.mock.calls.length).toBeLessThanOrEqual(2 * (10_000 / drawMillis + 1));
  // 5,000 lines came between two draws, of which a page holds 1,000.
  expect(tail.get().rows).toHaveLength(1000);
  expect(tail.get().rows[0]?._time).toBe("199999");
  expect(tail.get().notDrawn).toBeGreaterThan(150_000);
  tail.stop();
});

it("says why a stream broke, and that it ended", async () => {
  vi.stubGlobal("fetch", vi.fn(() => Promise.resolve(new Response("cannot parse query", { status: 400 }))));
  const broken = new Tail();
  await broken.run("(", new AbortController().signal);
  expect(broken.get()).toMatchObject({ status: "failed", error: "cannot parse query" });

  vi.stubGlobal("fetch", vi.fn(() => Promise.resolve(new Response('{"_msg":"a"}\n{"_msg":"b"}\nbroken\n{"_msg":"cut off"'))));
  const ended = new Tail();
  await ended.run("*", new AbortController().signal);
  drawn();
  expect(ended.get().status).toBe("ended");
  expect(ended.get().rows.map((r) => r._msg)).toEqual(["b", "a"]);
});
