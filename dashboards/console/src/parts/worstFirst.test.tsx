// @vitest-environment jsdom
import "@/test/setup";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { renderHook, waitFor } from "@testing-library/react";
import type { ReactNode } from "react";
import { expect, it, vi } from "vitest";
import { useWorstFirst, worstFirst } from "./worstFirst";

vi.mock("./page", () => ({ useRefresh: () => false }));

type Ask = (limit: number) => Promise<{ items: number[]; next: string | null }>;

function list(ask: Ask, first: boolean) {
  const client = new QueryClient({ defaultOptions: { queries: { staleTime: Infinity, retry: false } } });
  const seen: unknown[] = [];
  const { result } = renderHook(
    () => {
      const { data, error } = useWorstFirst({ key: ["numbers"], ask, first });
      if (data !== undefined && seen.at(-1) !== data) seen.push(data);
      return { data, error };
    },
    { wrapper: ({ children }: { children: ReactNode }) => <QueryClientProvider client={client}>{children}</QueryClientProvider> },
  );
  return { result, seen };
}

const long: Ask = (limit) => Promise.resolve(limit > 0 ? { items: [1], next: "1" } : { items: [1, 2, 3], next: null });
const whole = { items: [1, 2, 3], more: false, partial: false };

it("shows the worst of a long list, then all of it", async () => {
  const ask = vi.fn(long);
  const { result, seen } = list(ask, true);
  await waitFor(() => expect(result.current.data).toEqual(whole), { timeout: 60_000 });
  expect(seen).toEqual([{ items: [1], more: true, partial: true }, whole]);
  expect(ask.mock.calls.map(([limit]) => limit)).toEqual([100, 0]);
});

it("asks once for a list that is short", async () => {
  const ask = vi.fn<Ask>(() => Promise.resolve({ items: [1], next: null }));
  const { result } = list(ask, true);
  await waitFor(() => expect(result.current.data).toEqual({ items: [1], more: false, partial: false }), { timeout: 60_000 });
  expect(ask.mock.calls.map(([limit]) => limit)).toEqual([100]);
});

it("asks for all at once where something else than the worst is at the top", async () => {
  const ask = vi.fn(long);
  const { result } = list(ask, false);
  await waitFor(() => expect(result.current.data).toEqual(whole), { timeout: 60_000 });
  expect(ask.mock.calls.map(([limit]) => limit)).toEqual([0]);
});

it("asks for all when the worst could not be had, and says what is wrong with all", async () => {
  const ask = vi.fn<Ask>((limit) => Promise.reject(new Error(`no ${limit}`)));
  const { result } = list(ask, true);
  await waitFor(() => expect(result.current.error?.message).toBe("no 0"), { timeout: 60_000 });
});

it.each([
  [undefined, true],
  ["state", true],
  ["-state", false],
  ["-cpu", false],
])("takes a table sorted by %s for one with the worst first: %s", (sort, first) => expect(worstFirst(sort)).toBe(first));
