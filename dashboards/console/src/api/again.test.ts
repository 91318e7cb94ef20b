import { QueryCache, QueryClient, QueryObserver } from "@tanstack/react-query";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { againMillis, againUntilThere } from "./again";
import { connection } from "./connection";
import { RequestError } from "./problem";

const refused = (error: Error) => error instanceof RequestError && error.status >= 400 && error.status < 500;

beforeEach(() => {
  vi.useFakeTimers();
  connection.answered(0, true);
});
afterEach(() => vi.useRealTimers());

/** A view that refreshes never, and its question. */
function view(answer: () => Promise<string>) {
  const client = new QueryClient({ queryCache: new QueryCache({ onError: againUntilThere(refused) }), defaultOptions: { queries: { retry: false, networkMode: "always" } } });
  const observer = new QueryObserver(client, { queryKey: ["clusters"], queryFn: answer, refetchInterval: false });
  const leave = observer.subscribe(() => undefined);
  return { shown: () => observer.getCurrentResult().data, leave };
}
const starting = () => Promise.reject<string>(new RequestError("the server is starting", 503, "unavailable"));

it("asks a server that was starting until it answers, on a page that does not refresh", async () => {
  const answer = vi.fn<() => Promise<string>>(starting);
  const { shown } = view(answer);
  await vi.advanceTimersByTimeAsync(2 * againMillis);
  expect(answer).toHaveBeenCalledTimes(3);
  answer.mockResolvedValue("prod-1");
  await vi.advanceTimersByTimeAsync(againMillis);
  expect(shown()).toBe("prod-1");
  await vi.advanceTimersByTimeAsync(5 * againMillis);
  expect(answer).toHaveBeenCalledTimes(4);
});

it("asks at once when the server is heard again", async () => {
  const answer = vi.fn<() => Promise<string>>(() => {
    connection.failed();
    return Promise.reject(new RequestError("no answer", 0, "unreachable"));
  });
  const { shown } = view(answer);
  await vi.advanceTimersByTimeAsync(10);
  answer.mockResolvedValue("prod-1");
  connection.answered(0, true);
  await vi.advanceTimersByTimeAsync(1);
  expect(shown()).toBe("prod-1");
});

it.each([
  ["was refused", () => Promise.reject<string>(new RequestError("there is none", 404, "not_found")), false],
  ["nobody looks at any more", (): Promise<string> => starting(), true],
])("leaves what %s", async (_, ask, gone) => {
  const answer = vi.fn(ask);
  const { leave } = view(answer);
  await vi.advanceTimersByTimeAsync(10);
  if (gone) leave();
  await vi.advanceTimersByTimeAsync(5 * againMillis);
  expect(answer).toHaveBeenCalledOnce();
});
