import { askEarly, firstQuestions } from "@/api/early";
import { openPage } from "@/api/opening";
import { opening } from "@/i18n/language";
import { loadLanguage } from "@/i18n/messages";
import { home } from "@/parts/home";

// The answers come while the scripts do. Who comes to the console's root may be sent on to their home.
const { pathname, search } = globalThis.location;
if (pathname !== "/" || search !== "" || home() === undefined) firstQuestions(pathname, search).forEach(askEarly);

// Words are chosen when modules load, so the language comes before everything else.
const scripts = loadLanguage().then(() => {
  // What draws an object is on its way with what draws the frame around it, and not only once that has run. Who draws it says when it does not come.
  if (pathname.startsWith("/clusters/")) pageOf(pathname).catch(() => undefined);
  return import("@/app/start");
});
void openPage(scripts, {
  say: () => {
    const line = document.createElement("p");
    line.role = "status";
    Object.assign(line.style, { fontFamily: "system-ui", maxWidth: "40em", margin: "4em" });
    line.textContent = opening;
    document.getElementById("root")?.replaceChildren(line);
  },
  reload: () => globalThis.location.reload(),
  storage: globalThis.sessionStorage,
  url: globalThis.location.href,
});

function pageOf(path: string): Promise<unknown> {
  const [, , , place, , kind, , inside] = path.split("/");
  if (place === "nodes") return import("@/features/node/page");
  if (inside === "containers") return import("@/features/container/page");
  if (kind === "pods") return import("@/features/pod/page");
  if (kind === "workloads") return import("@/features/workload/page");
  if (kind === "services") return import("@/features/service/page");
  return place === "namespaces" ? import("@/features/namespace/page") : import("@/features/cluster/page");
}
