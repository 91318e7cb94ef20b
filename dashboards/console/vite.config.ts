import react from "@vitejs/plugin-react";
import { loadEnv, type ProxyOptions } from "vite";
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

export default defineConfig({
  plugins: [react()],
  resolve: { alias: { "@": new URL("./src", import.meta.url).pathname } },
  build: {
    // public/.gitkeep comes along, so that a build leaves the placeholder that Go's embed needs.
    outDir: "dist",
    emptyOutDir: true,
    target: "es2022",
    // No page asks for it, and inline code would need a weaker content security policy.
    modulePreload: { polyfill: false },
    // Icons and the like stay files of their own: a policy without data: can serve them.
    assetsInlineLimit: 0,
  },
  server: {
    port: 7430,
    proxy,
  },
  preview: { port: 7430, proxy },
  test: {
    // Most tests are of pure functions. Those of components name jsdom and import test/setup.
    environment: "node",
    css: false,
    restoreMocks: true,
  },
});
