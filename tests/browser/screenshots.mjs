// Takes screenshots of every page into target/screenshots: narrow and wide, light and dark.

import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { chapters, launch, tab, themes, transports, unfold } from './book.mjs';

const SHOTS = fileURLToPath(new URL('../../target/screenshots', import.meta.url));

await rm(SHOTS, { recursive: true, force: true });
await mkdir(SHOTS, { recursive: true });
const { file, close } = await transports();
const browser = await launch();
try {
    for (const theme of await themes(browser, file)) {
        for (const width of [390, 1400]) {
            const { page } = await tab(browser, file, { theme, viewport: { width, height: 900 } });
            for (const chapter of chapters()) {
                await page.goto(file + chapter);
                await page.evaluate(unfold);
                const name = `${chapter.replace(/\.html$/, '').replaceAll('/', '-')}-${width}-${theme}.png`;
                await page.screenshot({ path: path.join(SHOTS, name), fullPage: true });
                console.log(`target/screenshots/${name}`);
            }
        }
    }
} finally {
    await browser.close();
    close();
}
