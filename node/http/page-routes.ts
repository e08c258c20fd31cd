/**
 * The web page of the peer, as `npm run build` made it from node/http/page: four files and nothing from elsewhere. Its
 * Content-Security-Policy lets it load from this server alone, and lets no text become markup (Trusted Types).
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PACKAGE_DIRECTORY } from '../version.js';
import type { Routes } from './routes.js';

const PAGE_DIRECTORY = join(PACKAGE_DIRECTORY, 'dist', 'page');

/** Path -> file and type. */
const FILES: Readonly<Record<string, readonly [file: string, type: string]>> = {
  '/': ['index.html', 'text/html; charset=utf-8'],
  '/page.js': ['page.js', 'text/javascript; charset=utf-8'],
  '/page.css': ['page.css', 'text/css; charset=utf-8'],
  '/favicon.svg': ['favicon.svg', 'image/svg+xml'],
};

export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

export const pageRoutes: Routes = (app) => {
  for (const [path, [file, type]] of Object.entries(FILES)) {
    app.get(path, async (c) => {
      let content: Buffer<ArrayBuffer>;
      try {
        content = await readFile(join(PAGE_DIRECTORY, file));
      } catch {
        return c.text('The web page is not built: npm run build. GET /status works.\n', 503);
      }
      c.header('Content-Security-Policy', CONTENT_SECURITY_POLICY);
      c.header('Referrer-Policy', 'no-referrer');
      c.header('Cross-Origin-Opener-Policy', 'same-origin');
      c.header('Cross-Origin-Resource-Policy', 'same-origin');
      c.header('Content-Type', type);
      return c.body(content);
    });
  }
};
