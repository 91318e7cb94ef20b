// @vitest-environment jsdom
import "@/test/setup";
import { MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { act, render, screen, waitFor } from "@testing-library/react";
import { run } from "axe-core";
import { expect, it, vi } from "vitest";
import type { components } from "@/api/schema";
import { frame } from "@/i18n/frame";
import { cssVariables, theme } from "@/ui/theme";
import { queryClient, router } from "./router";

// A server that has nothing yet. What pages look like with data, in colours and at all
// widths, is looked at in a browser.
const status: components["schemas"]["Status"] = {
  clusters: [],
  now: "2026-11-23T10:00:00Z",
  open: true,
  parts: [{ name: "engine", ready: true }],
  principal: { kind: "local_admin", name: "" },
  ready: true,
  simulated: false,
  started_at: "2026-11-23T09:00:00Z",
  stores: [{ name: "metrics", bytes: 1 }],
  version: "test",
};

function answer(path: string): string {
  if (path.startsWith("/select/")) return "";
  if (path.startsWith("/api/v1/")) return JSON.stringify({ status: "success", data: path.includes("/query") ? { resultType: "vector", result: [] } : [] });
  if (path.endsWith("/status")) return JSON.stringify(status);
  return JSON.stringify({ items: [], next: null });
}

vi.stubGlobal("scrollTo", () => undefined);
vi.stubGlobal("fetch", (input: string | Request) =>
  Promise.resolve(new Response(answer(new URL(typeof input === "string" ? input : input.url, "http://localhost").pathname), { headers: { "Content-Type": "application/json" } })),
);

const pages = ["/", "/incidents", "/policies", "/logs", "/explore", "/boards", "/notifications", "/settings", "/events", "/clusters", "/help/quick-start", "/nowhere"];

it("has no page that axe finds serious faults of", { timeout: 600_000 }, async () => {
  // axe looks whether a text is an icon by drawing it, which jsdom cannot.
  vi.spyOn(HTMLCanvasElement.prototype, "getContext").mockReturnValue(null);
  document.documentElement.lang = "en"; // as the page's file has it
  render(
    <MantineProvider theme={theme} cssVariablesResolver={cssVariables}>
      <QueryClientProvider client={queryClient}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </MantineProvider>,
  );
  const found: string[] = [];
  const titles = new Set<string | null>();
  for (const path of pages) {
    await act(() => router.navigate({ to: path }));
    await waitFor(() => expect(titles).not.toContain(screen.getByRole("heading", { level: 1 }).textContent), { timeout: 60_000 });
    titles.add(screen.getByRole("heading", { level: 1 }).textContent);
    const { violations } = await run(document, { resultTypes: ["violations"] });
    for (const v of violations) if (v.impact === "serious" || v.impact === "critical") found.push(`${path}: ${v.id}: ${v.help}: ${v.nodes.map((n) => n.html).join(" ")}`);
  }
  expect(titles).not.toContain(frame.broke);
  expect(found).toEqual([]);
});
