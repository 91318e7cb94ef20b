import createClient from "openapi-fetch";
import { request } from "./request";
import type { paths } from "./schema";

/** Our own API, typed by the server's OpenAPI. */
export const client = createClient<paths>({ baseUrl: globalThis.location.origin, fetch: (r) => request(r) });

/** The body of an answer; request has thrown already when there is none. */
export async function body<T>(answer: Promise<{ data?: T }>): Promise<T> {
  const { data } = await answer;
  if (data === undefined) throw new Error("BUG: an answer of 2xx without a body");
  return data;
}

/** The items of a list. Go writes an empty slice as null. */
export const items = <T>(list: { items: T[] | null }): T[] => list.items ?? [];
