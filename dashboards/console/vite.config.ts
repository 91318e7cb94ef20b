import react from "@vitejs/plugin-react";
import { Marked } from "marked";
import { loadEnv, type Plugin, type ProxyOptions } from "vite";
import { defineConfig } from "vitest/config";

// Where the API is while developing: CROWSNEST_SERVER=http://127.0.0.1:7520 npm run dev
const server = loadEnv("", ".", "CROWSNEST_").CROWSNEST_SERVER ?? "http://127.0.0.1:7420";
// Of the proxy's events, which come typed with the whole of Node only.
interface ProxyEvents {
  on(event: "proxyReq", listener: (request: { removeHeader(name: string): void }) => void): void;
}

const target: ProxyOptions = {
  target: server,
  // The server answers pages of its own Host and Origin only.
  changeOrigin: true,
  configure: (proxy: unknown) => (proxy as ProxyEvents).on("proxyReq", (request) => request.removeHeader("origin")),
};
const proxy = { "/api/v1": target, "/apis": target, "/select": target };

const slug = (text: string): string => text.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-");

// The guides of docs/ as HTML, made while building: the page that shows them carries no parser, and nothing of them runs.
const marked = new Marked({
  gfm: true,
  renderer: {
    heading({ tokens, depth, text }) {
      return `<h${depth} id="${slug(text)}">${this.parser.parseInline(tokens)}</h${depth}>\n`;
    },
    html: () => "",
  },
});
const guides = {
  name: "guides",
  transform(code: string, id: string) {
    if (!id.endsWith(".md?guide")) return undefined;
    return { code: `export default ${JSON.stringify(marked.parse(code, { async: false }))}`, moduleType: "js" as const, map: null };
  },
};

// The application is one import behind the page's language. The page names the files that it needs, so that they are on their way
// before the first script has run, and not one after the other.
const first = new URL("./src/main.tsx", import.meta.url).pathname;
const start = new URL("./src/app/start.tsx", import.meta.url).pathname;
const objectPages = ["cluster", "namespace", "node", "workload", "service", "pod", "container"].map((kind) => new URL(`./src/features/${kind}/page.tsx`, import.meta.url).pathname);

// Over HTTP/1.1 six files come at a time, and each costs a round: what every first view needs comes in two files (libraries, which change
// rarely, and our own), what the pages of objects share in a third. Everything else is split as it is used.
const groups: Readonly<Record<string, Set<string>>> = { first: new Set(), base: new Set(), frame: new Set(), object: new Set() };
const grouping: Plugin = {
  name: "grouping",
  apply: "build",
  buildEnd() {
    const reach = (found: Set<string>, id: string): Set<string> => {
      if (found.has(id)) return found;
      found.add(id);
      this.getModuleInfo(id)?.importedIds.forEach((next) => reach(found, next));
      return found;
    };
    // What the first script has goes with it: the rest must not run before the language is there.
    const before = reach(new Set(), first);
    const always = reach(new Set(), start);
    const objects = objectPages.reduce(reach, new Set<string>());
    for (const id of before) groups.first?.add(id);
    for (const id of always) if (!before.has(id) && id !== start) groups[id.includes("node_modules") ? "base" : "frame"]?.add(id);
    for (const id of objects) if (!before.has(id) && !always.has(id) && !objectPages.includes(id)) groups.object?.add(id);
  },
};
const preloads: Plugin = {
  name: "preloads",
  apply: "build",
  transformIndexHtml: {
    order: "post",
    handler(_, { bundle = {} }) {
      const chunks = Object.values(bundle).filter((file) => file.type === "chunk");
      const wanted = new Set<string>();
      const walk = (name: string | undefined) => {
        const chunk = chunks.find((c) => c.fileName === name);
        if (!chunk || wanted.has(chunk.fileName)) return;
        wanted.add(chunk.fileName);
        chunk.imports.forEach(walk);
      };
      const entry = chunks.find((c) => c.facadeModuleId === start);
      if (!entry) throw new Error("the chunk of src/app/start.tsx is not in the build: name here what the page begins with");
      walk(entry.fileName);
      const own = new Set(chunks.filter((c) => c.isEntry).map((c) => c.fileName));
      // Not as style sheets yet: a script waits for those, and the order in which they apply stays that of the imports.
      const styles = chunks.filter((c) => wanted.has(c.fileName)).flatMap((c) => [...(c.viteMetadata?.importedCss ?? [])]);
      return [
        ...[...wanted].filter((name) => !own.has(name)).map((name) => ({ tag: "link", attrs: { rel: "modulepreload", crossorigin: true, href: `/${name}` }, injectTo: "head" as const })),
        ...[...new Set(styles)].map((name) => ({ tag: "link", attrs: { rel: "preload", as: "style", crossorigin: true, href: `/${name}` }, injectTo: "head" as const })),
      ];
    },
  },
};

export default defineConfig({
  plugins: [guides, grouping, preloads, react()],
  resolve: { alias: { "@": new URL("./src", import.meta.url).pathname } },
  build: {
    // public/.gitkeep comes along, so that a build leaves the placeholder that Go's embed needs.
    outDir: "dist",
    emptyOutDir: true,
    target: "es2022",
    // No page asks for it, and inline code would need a weaker content security policy.
    modulePreload: { polyfill: false },
    rolldownOptions: { output: { codeSplitting: { groups: Object.entries(groups).map(([name, modules]) => ({ name, test: (id: string) => modules.has(id) || (name === "first" && id.includes("vite/preload-helper")) })) } } },
    // The libraries' file is one on purpose; what a view may load is bounded by a test of its own.
    chunkSizeWarningLimit: 800,
    // Icons and the like stay files of their own: a policy without data: can serve them.
    assetsInlineLimit: 0,
  },
  server: {
    port: 7430,
    proxy,
    // The guides stand outside of the console.
    fs: { allow: ["../.."] },
  },
  preview: { port: 7430, proxy },
  test: {
    // Most tests are of pure functions. Those of components name jsdom and import test/setup.
    environment: "node",
    css: false,
    restoreMocks: true,
    // A machine that does much else at a time takes long to load what a test needs.
    testTimeout: 60_000,
  },
});
