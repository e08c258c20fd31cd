/** Debian's Chromium, as `apt-get install chromium` puts it; MURMURATE_CHROMIUM names another. */
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';

const EXECUTABLE = process.env['MURMURATE_CHROMIUM'] ?? '/usr/bin/chromium';

/** Longest wait for anything on a page, in ms: test machines are slow and busy. */
export const PAGE_DEADLINE_MS = 60_000;

export async function openBrowser(): Promise<Browser> {
  // Chromium refuses its sandbox to root.
  const args = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
  return chromium.launch({ executablePath: EXECUTABLE, args });
}

/** What a page did that it must not, or might not. */
export interface Watched {
  page: Page;
  /** Errors and warnings on the console, and exceptions. */
  complaints: string[];
  /** Hosts, with their ports, that anything was asked of. */
  hosts: Set<string>;
}

/** A page in a browser profile of its own. */
export async function openPage(
  browser: Browser,
  options: BrowserContextOptions = {},
): Promise<Watched> {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(PAGE_DEADLINE_MS);
  const page = await context.newPage();
  const complaints: string[] = [];
  const hosts = new Set<string>();
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => hosts.add(new URL(request.url()).host));
  return { page, complaints, hosts };
}
