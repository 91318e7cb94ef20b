import { expect, it, vi } from "vitest";
import { Tail } from "./tail";

const rows = (n: number, from = 0) => Array.from({ length: n }, (_, i) => ({ _time: String(from + i), _msg: `line ${from + i}` }));

it("shows the newest first", () => {
  const tail = new Tail();
  tail.add(rows(2), 0);
  tail.add(rows(1, 2), 100);
  expect(tail.get().rows.map((r) => r._time)).toEqual(["2", "1", "0"]);
});

it("holds lines while paused, and counts those that do not fit", () => {
  const tail = new Tail();
  tail.pause(true);
  tail.add(rows(1240), 0);
  expect(tail.get()).toMatchObject({ rows: [], waiting: 1000, notDrawn: 240 });
  tail.pause(false);
  expect(tail.get()).toMatchObject({ waiting: 0, notDrawn: 240 });
  expect(tail.get().rows[0]?._time).toBe("1239");
});

it("says the rate of the last seconds", () => {
  const tail = new Tail();
  tail.add(rows(50), 0);
  expect(tail.get().rate).toBe(10);
  tail.add(rows(5), 9000);
  expect(tail.get().rate).toBe(1);
});

it("says why a stream broke, and that it ended", async () => {
  vi.stubGlobal("fetch", vi.fn(() => Promise.resolve(new Response("cannot parse query", { status: 400 }))));
  const broken = new Tail();
  await broken.run("(", new AbortController().signal);
  expect(broken.get()).toMatchObject({ status: "failed", error: "cannot parse query" });

  vi.stubGlobal("fetch", vi.fn(() => Promise.resolve(new Response('{"_msg":"a"}\n{"_msg":"b"}\nbroken\n{"_msg":"cut off"'))));
  const ended = new Tail();
  await ended.run("*", new AbortController().signal);
  expect(ended.get().status).toBe("ended");
  expect(ended.get().rows.map((r) => r._msg)).toEqual(["b", "a"]);
});
