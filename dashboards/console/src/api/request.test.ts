import { beforeEach, describe, expect, it, vi } from "vitest";
import { connection } from "./connection";
import { problemOf, RequestError } from "./problem";
import { request } from "./request";

const answer = (status: number, body: string) => vi.fn(() => Promise.resolve(new Response(body, { status })));

beforeEach(() => connection.answered(1, true));

describe("request", () => {
  it("gives an answer of 2xx", async () => {
    vi.stubGlobal("fetch", answer(200, "ok"));
    expect(await (await request("/x")).text()).toBe("ok");
  });

  it.each([304, 400, 401, 403, 404, 409, 422, 500, 503])("rejects %s", async (status) => {
    vi.stubGlobal("fetch", vi.fn(() => Promise.resolve(new Response(status === 304 ? null : "{}", { status }))));
    await expect(request("/x")).rejects.toMatchObject({ name: "RequestError", status });
  });

  it("says that the server cannot be reached, once it cannot, and is over it with the next answer", async () => {
    vi.stubGlobal("fetch", vi.fn(() => Promise.reject(new TypeError("failed to fetch"))));
    await expect(request("/x")).rejects.toMatchObject({ code: "unreachable", unreachable: true });
    expect(connection.get().reachable).toBe(false);
    vi.stubGlobal("fetch", answer(404, "{}"));
    await expect(request("/x")).rejects.toBeInstanceOf(RequestError);
    expect(connection.get().reachable).toBe(true);
  });

  it("lets a request that was given up be one", async () => {
    vi.stubGlobal("fetch", vi.fn(() => Promise.reject(new DOMException("gone", "AbortError"))));
    await expect(request("/x")).rejects.toBeInstanceOf(DOMException);
    expect(connection.get().reachable).toBe(true);
  });
});

describe("problemOf", () => {
  it.each([
    [
      "problem details with fields",
      '{"title":"Invalid policy","status":422,"code":"invalid","detail":"2 fields are wrong","errors":[{"location":"body.spec.period","message":"must be a multiple of 30s"}]}',
      "2 fields are wrong; body.spec.period: must be a multiple of 30s",
      "invalid",
    ],
    ["Prometheus' shape", '{"status":"error","errorType":"bad_data","error":"parse error"}', "parse error", "bad_data"],
    ["plain text", "cannot parse query: x\n", "cannot parse query: x", "http"],
    ["a page of HTML", "<html><body>Bad gateway</body></html>", "The server answered 502.", "http"],
    ["nothing", "", "The server answered 502.", "http"],
    ["another JSON", "[1]", "The server answered 502.", "http"],
  ])("reads %s", (_, body, message, code) => expect(problemOf(502, body)).toMatchObject({ message, code, status: 502 }));
});
