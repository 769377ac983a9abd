// The built book and a browser, for the tests and the screenshots.

import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { chromium } from 'playwright-core';

/** The directory with the built book. Set BOOK to a copy with a fault in it to see a test fail. */
export const BOOK = process.env.BOOK ?? fileURLToPath(new URL('../../target/book', import.meta.url));

/** Returns the pages in reading order, from the book's own list. An empty list is an error, because tests that loop
 * over it would pass. */
export function chapters() {
    const toc = readFileSync(path.join(BOOK, 'toc.html'), 'utf8');
    const found = [...toc.matchAll(/<a href="([^"#]+\.html)"/g)].map(match => match[1]);
    if (found.length === 0) {
        throw new Error(`${BOOK}/toc.html names no chapter`);
    }
    return found;
}

/** Returns all pages and the page that holds the whole book. */
export function pages() {
    return [...chapters(), 'print.html'];
}

export function launch() {
    return chromium.launch({
        executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
        args: [
            '--headless',
            '--no-sandbox',
            '--disable-gpu',
            '--disable-quic',
            '--no-first-run',
            '--disable-background-networking',
            '--disable-component-update',
            '--disable-sync',
            // A page can't reach another machine, so tests give the same result online and offline.
            '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
        ],
    });
}

const TYPES = {
    '.css': 'text/css',
    '.html': 'text/html; charset=utf-8',
    '.js': 'text/javascript',
    '.png': 'image/png',
    '.svg': 'image/svg+xml',
};

/** Starts a server. Returns the first part of every page's address, from the disk and over HTTP. */
export async function transports() {
    const server = createServer(async (request, response) => {
        const name = new URL(request.url, 'http://book').pathname;
        try {
            const body = await readFile(path.join(BOOK, name));
            // Without a cache, each page fetches everything that it needs, as on a first visit.
            response.writeHead(200, { 'content-type': TYPES[path.extname(name)], 'cache-control': 'no-store' }).end(body);
        } catch {
            response.writeHead(404).end();
        }
    });
    await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
    return {
        file: pathToFileURL(BOOK).href + '/',
        http: `http://127.0.0.1:${server.address().port}/`,
        close: () => server.close(),
    };
}

/** Opens a tab in a new profile. `faults` collects everything in the console and every request that leaves the
 * book. */
export async function tab(browser, base, { theme, ...options } = {}) {
    const context = await browser.newContext({ viewport: { width: 1400, height: 900 }, reducedMotion: 'reduce', ...options });
    if (theme) {
        await context.addInitScript(name => localStorage.setItem('mdbook-theme', name), theme);
    }
    context.setDefaultTimeout(10_000);
    context.setDefaultNavigationTimeout(30_000); // a machine with other work
    // The page with the whole book opens the print dialog, and would have the layout for paper until that is closed.
    await context.addInitScript(() => { window.print = () => {}; });
    const page = await context.newPage();
    const faults = [];
    const where = () => page.url().replace(base, '');
    page.on('console', message => {
        if (['error', 'warning'].includes(message.type())) {
            faults.push(`${where()}: console: ${message.text()}`);
        }
    });
    page.on('pageerror', error => faults.push(`${where()}: ${error}`));
    page.on('requestfailed', request => {
        // A reader who moves on early aborts requests.
        if (request.failure().errorText !== 'net::ERR_ABORTED') {
            faults.push(`${where()}: ${request.failure().errorText}: ${request.url()}`);
        }
    });
    page.on('request', request => {
        if (!request.url().startsWith(base) && !request.url().startsWith('data:')) {
            faults.push(`${where()}: leaves the book: ${request.url()}`);
        }
    });
    page.on('websocket', socket => faults.push(`${where()}: opens a socket: ${socket.url()}`));
    return { page, faults, close: () => context.close() };
}

/** Returns the themes in the book's menu. */
export async function themes(browser, base) {
    const { page, close } = await tab(browser, base);
    await page.goto(base + 'index.html');
    await page.click('#mdbook-theme-toggle');
    const ids = await page.locator('#mdbook-theme-list .theme:visible').evaluateAll(buttons => buttons.map(b => b.id));
    await close();
    const found = ids.map(id => id.replace('mdbook-theme-', '')).filter(name => name !== 'default_theme');
    if (found.length === 0) {
        throw new Error('the menu offers no theme');
    }
    return found;
}

/** For `evaluate`: opens all folded parts, and waits until they are drawn and scripts know their size. */
export async function unfold() {
    document.querySelectorAll('details').forEach(details => { details.open = true; });
    await new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)));
}
