import { afterEach, expect, it, vi } from "vitest";
import { askEarly, firstQuestions, takeEarly } from "./early";
import { request } from "./request";

afterEach(() => vi.unstubAllGlobals());

const patient = () => new AbortController().signal;

it("gives an early answer to the first who asks, and asks anew for the next", async () => {
  const fetched = vi.fn((path: string | Request) => Promise.resolve(new Response(`${fetched.mock.calls.length} ${typeof path === "string" ? path : path.url}`)));
  vi.stubGlobal("fetch", fetched);
  askEarly("/apis/x?state=active");
  expect(fetched).toHaveBeenCalledOnce();
  expect(await (await request("/apis/other")).text()).toBe("2 /apis/other");
  expect(await (await request(new Request("http://console.test/apis/x?state=active"))).text()).toBe("1 /apis/x?state=active");
  expect(await (await request("/apis/x?state=active")).text()).toBe("3 /apis/x?state=active");
});

it("does not take a change for a question", async () => {
  vi.stubGlobal("fetch", vi.fn((_: string, init?: RequestInit) => Promise.resolve(new Response(init?.method ?? "GET"))));
  askEarly("/apis/y");
  expect(await (await request("/apis/y", { method: "POST" })).text()).toBe("POST");
});

it("is given up with the one who took it", async () => {
  vi.stubGlobal("fetch", vi.fn((_: string, init?: RequestInit) => new Promise<Response>((_resolve, reject) => init?.signal?.addEventListener("abort", () => reject(new DOMException("given up", "AbortError"))))));
  askEarly("/apis/z");
  const stop = new AbortController();
  const answer = takeEarly("/apis/z", stop.signal)?.answer.catch((e: unknown) => e);
  stop.abort();
  expect(await answer).toBeInstanceOf(DOMException);
  expect(takeEarly("/apis/z", patient())).toBeUndefined();
});

it("is no answer to a question of much later", () => {
  vi.stubGlobal("fetch", vi.fn(() => Promise.resolve(new Response("old"))));
  const now = vi.spyOn(performance, "now").mockReturnValue(1000);
  askEarly("/apis/w");
  now.mockReturnValue(17_000);
  expect(takeEarly("/apis/w", patient())).toBeUndefined();
  now.mockRestore();
});

it("is named as the client asks", async () => {
  vi.stubGlobal("location", new URL("http://console.test/"));
  const fetched = vi.fn(() => Promise.resolve(Response.json({ items: [] })));
  vi.stubGlobal("fetch", fetched);
  const { client } = await import("./client");
  askEarly("/apis/crowsnest.dev/v1/incidents?state=active");
  askEarly("/apis/crowsnest.dev/v1/clusters");
  await client.GET("/apis/crowsnest.dev/v1/incidents", { params: { query: { state: "active" } } });
  await client.GET("/apis/crowsnest.dev/v1/clusters");
  expect(fetched).toHaveBeenCalledTimes(2);
});

const everyPage = ["/status", "/incidents?state=active"];

it.each([
  ["/", "", ["/clusters"]],
  ["/incidents", "?state=all", []],
  ["/clusters", "", []],
  ["/clusters/prod-1", "", ["/clusters/prod-1", "/catalogue"]],
  ["/clusters/prod-1", "?tab=nodes&sort=-cpu", ["/clusters/prod-1", "/clusters/prod-1/nodes?limit=100"]],
  ["/clusters/prod-1", "?tab=logs", ["/clusters/prod-1"]],
  ["/clusters/prod-1/nodes/n-12", "", ["/clusters/prod-1", "/clusters/prod-1/nodes/n-12", "/catalogue"]],
  ["/clusters/prod-1/namespaces/shop", "", ["/clusters/prod-1", "/clusters/prod-1/namespaces/shop", "/catalogue"]],
  ["/clusters/prod-1/namespaces/shop/workloads/deployment/cart", "", ["/clusters/prod-1", "/clusters/prod-1/namespaces/shop/workloads/deployment/cart", "/catalogue"]],
  ["/clusters/prod-1/namespaces/shop/pods/cart-x", "?tab=pods", ["/clusters/prod-1", "/clusters/prod-1/namespaces/shop/pods/cart-x"]],
  ["/clusters/prod-1/namespaces/shop/pods/cart-x/containers/app", "", ["/clusters/prod-1", "/clusters/prod-1/namespaces/shop/pods/cart-x", "/catalogue"]],
  ["/clusters/prod-1/nosuch/shop", "", []],
])("knows what %s%s asks first", (path, search, questions) => {
  expect(firstQuestions(path, search)).toEqual([...everyPage, ...questions].map((q) => `/apis/crowsnest.dev/v1${q}`));
});

it("is given up when nobody takes it, and asked anew when it is not answered", async () => {
  vi.useFakeTimers();
  try {
    const stopped: string[] = [];
    let answers = false;
    const fetched = vi.fn((path: string, init?: RequestInit) => {
      if (answers) return Promise.resolve(new Response("new"));
      return new Promise<Response>((_, reject) =>
        init?.signal?.addEventListener("abort", () => {
          stopped.push(path);
          reject(new DOMException("given up", "AbortError"));
        }),
      );
    });
    vi.stubGlobal("fetch", fetched);
    askEarly("/apis/untaken");
    askEarly("/apis/hung");
    const { request } = await import("./request");
    const asked = request("/apis/hung").then((r) => r.text());
    answers = true;
    await vi.advanceTimersByTimeAsync(5001);
    expect(await asked).toBe("new");
    // What hangs gave its connection free.
    expect(stopped).toEqual(["/apis/hung"]);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(stopped).toEqual(["/apis/hung", "/apis/untaken"]);
  } finally {
    vi.useRealTimers();
  }
});
