// Builds the page into playback/static, which is committed: users need no npm. Names carry no hash, as the server's
// ETag is the content's; the output depends on nothing but the sources and the lock file.
import { defineConfig } from "vite";

export default defineConfig({
  base: "/web/",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    outDir: process.env.KEYREEL_WEB_OUT ?? "../static",
    emptyOutDir: true,
    modulePreload: false,
    cssCodeSplit: false,
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    rolldownOptions: {
      output: {
        entryFileNames: "app.js",
        chunkFileNames: "[name].js",
        assetFileNames: "[name][extname]",
      },
    },
  },
  server: { proxy: { "/api": { target: process.env.KEYREEL_NODE ?? "http://127.0.0.1:8787", ws: true } } },
});
