import { asking as m } from "@/i18n/asking";
import { server } from "@/i18n/server";

/** Why a request did not give what was asked for, in words for people. */
export class RequestError extends Error {
  override readonly name = "RequestError";

  constructor(
    message: string,
    /** HTTP status, or 0 when the server was not reached. */
    readonly status: number,
    /** The server's code word, for example "not_found"; "unreachable" when it was not reached. */
    readonly code: string,
    /** What is wrong with which part of what was sent. */
    readonly fields: readonly { readonly location: string; readonly message: string }[] = [],
    /** With a conflict: the object as it is now. */
    readonly current?: unknown,
  ) {
    super(message);
  }

  get unreachable(): boolean {
    return this.status === 0;
  }

  get notFound(): boolean {
    return this.status === 404;
  }
}

const text = (value: unknown): string | undefined =>
  typeof value === "string" && value.trim() !== "" ? value.trim() : undefined;

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * Reads an error body: RFC 9457 problem details (ours), {status, errorType, error} (Prometheus') or
 * plain text (VictoriaLogs').
 */
export function problemOf(status: number, body: string): RequestError {
  const fallback = m.answered(status);
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    // A page of HTML from a proxy in between says nothing to a reader.
    const plain = body.trimStart().startsWith("<") ? undefined : text(body)?.slice(0, 400);
    return new RequestError(plain ?? fallback, status, "http");
  }
  if (!isRecord(parsed)) return new RequestError(fallback, status, "http");
  const fields = Array.isArray(parsed.errors)
    ? parsed.errors.filter(isRecord).flatMap((e) => {
        const message = text(e.message);
        return message === undefined ? [] : [{ location: text(e.location) ?? "", message: refusal(e, message) }];
      })
    : [];
  const wrong = fields.map((f) => [f.location.replace(/^body\./, ""), f.message].filter(Boolean).join(": "));
  const said = text(parsed.detail) ?? text(parsed.error) ?? text(parsed.title);
  const code = text(parsed.code) ?? text(parsed.errorType) ?? "http";
  const message = said === undefined ? wrong.join("; ") : parsed.reason === undefined ? server.problem(code, said, wrong) : refusal(parsed, said);
  return new RequestError(message || fallback, status, code, fields, parsed.current);
}

/** What was said, in the page's language where the server names the sentence. */
function refusal(of: Record<string, unknown>, said: string): string {
  const reason = text(of.reason);
  if (reason === undefined) return said;
  const params = isRecord(of.params) ? Object.entries(of.params).flatMap(([name, value]) => (typeof value === "string" ? [[name, value] as const] : [])) : [];
  return server.refusal(reason, Object.fromEntries(params), said);
}
