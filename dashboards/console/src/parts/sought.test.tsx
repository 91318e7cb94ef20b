// @vitest-environment jsdom
import "@/test/setup";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { renderHook, waitFor } from "@testing-library/react";
import type { ReactNode } from "react";
import { expect, it, vi } from "vitest";
import { useCatalogue, useSought } from "./queries";

const asked = vi.hoisted(() => vi.fn<() => string[]>());
vi.mock("./page", () => ({ useRefresh: () => false }));
vi.mock("@/api/client", () => ({
  client: { GET: () => Promise.resolve() },
  body: () => Promise.resolve(),
  items: () => asked().map((name) => ({ name, title: name, help: "" })),
}));

/** A tab in which metrics are sought, after one that sought none. */
async function tab(answers: string[][]) {
  for (const names of answers) asked.mockReturnValueOnce(names);
  asked.mockReturnValue(answers.at(-1) ?? []);
  asked.mockClear();
  const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  const seen: string[] = [];
  const { rerender } = renderHook(
    ({ names }: { names: string[] }) => {
      const known = useCatalogue().data?.map((m) => m.name) ?? [];
      const now = `${useSought(names) ? "sought" : "seeking"} ${known.join(" ")}`;
      if (seen.at(-1) !== now) seen.push(now);
    },
    { initialProps: { names: [] as string[] }, wrapper: ({ children }: { children: ReactNode }) => <QueryClientProvider client={client}>{children}</QueryClientProvider> },
  );
  await waitFor(() => expect(seen.at(-1)).toBe("sought a"), { timeout: 60_000 });
  return { seen, seek: (...names: string[]) => rerender({ names }) };
}

it("finds a metric that was made since the catalogue was read", async () => {
  const { seen, seek } = await tab([["a"], ["a", "b"]]);
  seek("a", "b");
  await waitFor(() => expect(seen.at(-1)).toBe("sought a b"), { timeout: 60_000 });
  expect(seen).toContain("seeking a");
  expect(asked).toHaveBeenCalledTimes(2);
});

it("seeks one that there is not once only", async () => {
  const { seen, seek } = await tab([["a"]]);
  seek("gone");
  await waitFor(() => expect(seen.slice(-2)).toEqual(["seeking a", "sought a"]), { timeout: 60_000 });
  seek("a");
  seek("gone");
  await waitFor(() => expect(seen.at(-1)).toBe("sought a"), { timeout: 60_000 });
  expect(asked).toHaveBeenCalledTimes(2);
});
