import { askEarly } from "@/api/early";
import { loadLanguage } from "@/i18n/messages";
import { home } from "@/parts/home";

// What the frame of every page asks, and the overview: the answers come while the scripts do.
const api = "/apis/crowsnest.dev/v1";
askEarly(`${api}/status`);
askEarly(`${api}/incidents?state=active`);
if (globalThis.location.pathname === "/" && (globalThis.location.search !== "" || home() === undefined)) askEarly(`${api}/clusters`);

// Words are chosen when modules load, so the language comes before everything else.
void loadLanguage().then(() => import("@/app/start"));
