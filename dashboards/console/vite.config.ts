import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

const server = "http://127.0.0.1:7420";

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
    proxy: { "/api": server, "/apis": server, "/select": server },
  },
  test: {
    environment: "jsdom",
    setupFiles: ["src/test/setup.ts"],
    css: false,
    restoreMocks: true,
  },
});
