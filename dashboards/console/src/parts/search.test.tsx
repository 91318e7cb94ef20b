// @vitest-environment jsdom
import "@/test/setup";
import { createMemoryHistory, createRootRoute, createRouter, RouterProvider } from "@tanstack/react-router";
import { act, render } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { isStep, useSetSearch } from "./search";

describe("what is a step of its own", () => {
  it.each([
    ["another tab", {}, { tab: "logs", filter: undefined }, true],
    ["back to the first tab", { tab: "logs" }, { tab: undefined }, true],
    ["the tab that is there", { tab: "logs" }, { tab: "logs" }, false],
    ["a filter", { tab: "pods" }, { filter: "cart" }, false],
    ["a sort", {}, { sort: "-cpu" }, false],
    ["a range", { from: "now-1h" }, { from: "now-6h", to: "now" }, false],
    ["the refresh", {}, { refresh: "10s" }, false],
    ["another pod's lines", { pod: "a" }, { pod: "b" }, true],
    ["a query that was sent", {}, { q: "error" }, true],
  ] as const)("%s", (_, old, change, want) => expect(isStep(old, change)).toBe(want));
});

describe("Back", () => {
  let set: (change: Record<string, string | undefined>) => void;
  const Probe = () => {
    set = useSetSearch<Record<string, string>>();
    return null;
  };
  const start = async () => {
    const history = createMemoryHistory({ initialEntries: ["/?tab=before"] });
    const router = createRouter({ routeTree: createRootRoute({ component: Probe, validateSearch: (raw: Record<string, unknown>) => raw as Record<string, string> }), history });
    await act(() => router.load());
    render(<RouterProvider router={router as never} />);
    return { history, at: () => router.latestLocation.search, change: (c: Record<string, string | undefined>, later = 5000) => act(() => (vi.setSystemTime(Date.now() + later), set(c), Promise.resolve())) };
  };
  beforeEach(() => vi.useFakeTimers({ toFake: ["Date"] }));
  afterEach(() => vi.useRealTimers());

  it("goes from tab to tab, whatever was typed, sorted or dragged in between", async () => {
    const { history, at, change } = await start();
    await change({ tab: "pods" });
    await change({ filter: "c" }, 300);
    await change({ filter: "cart" }, 300);
    await change({ sort: "-cpu", from: "now-6h" });
    await change({ tab: "logs", filter: undefined, sort: undefined });
    expect(at()).toEqual({ tab: "logs", from: "now-6h" });
    await act(() => (history.back(), Promise.resolve()));
    expect(at()).toEqual({ tab: "pods", filter: "cart", sort: "-cpu", from: "now-6h" });
    await act(() => (history.back(), Promise.resolve()));
    expect(at()).toEqual({ tab: "before" });
  });

  it("takes tabs that were passed through as one", async () => {
    const { history, at, change } = await start();
    await change({ tab: "pods" });
    for (const tab of ["logs", "events", "facts"]) await change({ tab }, 300);
    expect(at()).toEqual({ tab: "facts" });
    await act(() => (history.back(), Promise.resolve()));
    expect(at()).toEqual({ tab: "before" });
  });
});
