/** A page whose scripts take longer than this is looked after. */
const patientMillis = 30_000;
const checkMillis = 2000;
const longestMillis = 60_000;
const key = "crowsnest.openings";

interface Page {
  /** Says that the page waits. */
  readonly say: () => void;
  readonly reload: () => void;
  readonly storage: Pick<Storage, "getItem" | "setItem" | "removeItem">;
  readonly url: string;
}

/**
 * Opens the page, by its scripts. Those that did not come, as from a server that is started anew meanwhile, are never asked for again by
 * the browser; the page is loaded anew once the server gives it. Each time it waits longer: what is wrong may be something else.
 */
export async function openPage(scripts: Promise<unknown>, { say, reload, storage, url }: Page): Promise<void> {
  const before = Number(storage.getItem(key) ?? 0);
  const slower = 2 ** Math.min(before, 5);
  const came = await Promise.race([
    scripts.then(
      () => true,
      () => false,
    ),
    wait(patientMillis * slower).then(() => undefined),
  ]);
  if (came === true) {
    storage.removeItem(key);
    return;
  }
  say();
  for (;;) {
    await wait(Math.min(checkMillis * slower, longestMillis));
    if (await answers(url)) break;
  }
  storage.setItem(key, String(before + 1));
  reload();
}

const wait = (millis: number) => new Promise<void>((done) => setTimeout(done, millis));

async function answers(url: string): Promise<boolean> {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), checkMillis * 2);
  try {
    const answer = await fetch(url, { headers: { Accept: "text/html" }, cache: "no-store", signal: stop.signal });
    return answer.ok;
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
  }
}
