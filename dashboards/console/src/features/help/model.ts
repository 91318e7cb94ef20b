/**
 * A guide with its links leading to the console's own pages: other guides to /help, what is outside
 * of docs/ to nowhere, images to the files that came with the build (or left out where there are none).
 */
export function linked(html: string, name: string, image: (file: string) => string | undefined): string {
  const folder = name.includes("/") ? name.slice(0, name.lastIndexOf("/") + 1) : "";
  return html
    .replace(/<h1 [^>]*>.*?<\/h1>\n?/s, "")
    // What scrolls can be reached by the keyboard.
    .replace(/<(pre|table)>/g, '<$1 tabindex="0">')
    .replace(/<img src="([^"]+)"([^>]*)>/g, (_, src: string, rest: string) => {
      const url = image(resolve(folder, src));
      // eslint-disable-next-line no-restricted-syntax -- HTML
      return url === undefined ? "" : `<img src="${url}"${rest} loading="lazy">`;
    })
    .replace(/<a href="([^"]+)"/g, (whole, href: string) => {
      if (/^https?:/.test(href)) return `${whole} target="_blank" rel="noreferrer"`;
      if (href.startsWith("#")) return `<a href="/help/${name}${href}"`;
      const [path = "", hash] = href.split("#");
      const to = resolve(folder, path);
      if (!path.endsWith(".md") || to.startsWith("../")) return "<a";
      return `<a href="/help/${to.slice(0, -3)}${hash === undefined ? "" : `#${hash}`}"`;
    });
}

function resolve(folder: string, path: string): string {
  const parts = folder.split("/").filter(Boolean);
  for (const p of path.split("/")) {
    if (p === "..") {
      if (parts.length === 0) return `../${path}`;
      parts.pop();
    } else if (p !== "." && p !== "") parts.push(p);
  }
  return parts.join("/");
}
