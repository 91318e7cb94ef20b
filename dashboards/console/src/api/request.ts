import { asking as m } from "@/i18n/asking";
import { connection } from "./connection";
import { problemOf, RequestError } from "./problem";

/**
 * The one way to the server. Resolves with an answer of 2xx only; everything else rejects with a
 * RequestError that carries the server's own words.
 */
export async function request(input: string | Request, init?: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(input, init);
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === "AbortError") throw cause;
    connection.failed();
    throw new RequestError(m.unreachable, 0, "unreachable");
  }
  // A proxy that stands in front answers these when the server behind it is gone.
  if (response.status === 502 || response.status === 504) connection.failed();
  else connection.answered(Date.now(), response.status < 500);
  if (!response.ok) throw problemOf(response.status, await response.text());
  return response;
}
