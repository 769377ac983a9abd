// Tests reading: from the disk and over HTTP, with the keyboard, on a phone and on a wide screen, and without
// JavaScript.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';

import { BOOK, chapters, launch, pages, tab, transports, unfold } from './book.mjs';

let browser, book;
before(async () => {
    book = await transports();
    browser = await launch();
});
after(async () => {
    await browser?.close();
    book?.close();
});

const WIDTHS = [390, 768, 1100, 1400];
const PHONE = { viewport: { width: 390, height: 900 } };
const KB = 1000;

/** Runs a test in a new tab. The console has to stay empty, and no request may leave the book. */
function inTab(name, options, look) {
    test(name, async () => {
        const base = book[options.transport ?? 'file'];
        const { page, faults, close } = await tab(browser, base, options);
        await look(page, base);
        assert.deepEqual(faults, []);
        await close();
    });
}

for (const transport of ['file', 'http']) {
    describe(`over ${transport}`, () => {
        inTab('every page loads completely and without a message', { transport }, async (page, base) => {
            for (const name of ['index.html', ...pages()]) {
                // Wait until the network is idle, because scripts may fetch something later.
                await page.goto(base + name, { waitUntil: 'networkidle' });
                // The text after the scripts ran, and the text that readers without scripts have.
                const [made, written] = await page.evaluate(texts, readFileSync(path.join(BOOK, name), 'utf8'));
                assert.ok(written, `${name} is empty`);
                assert.equal(made, written, name);
            }
        });

        inTab('search finds NSpid and opens its page', { transport }, async (page, base) => {
            await page.goto(base + 'index.html');
            await page.keyboard.press('/');
            await page.keyboard.type('NSpid');
            await page.locator('#mdbook-searchresults li').first().waitFor();
            await page.keyboard.press('Enter');
            await page.waitForURL(/highlight=NSpid/i);
            await page.locator('main mark', { hasText: /^NSpid$/i }).first().waitFor();
        });

        inTab('arrow keys turn the pages in both directions', { transport }, async (page, base) => {
            const turn = async (key, to) => {
                await page.keyboard.press(key);
                await page.waitForURL(base + to);
            };
            const order = chapters();
            await page.goto(base + 'index.html');
            for (const chapter of order.slice(1)) {
                await turn('ArrowRight', chapter);
            }
            // Twice is enough, because the test without JavaScript checks every link to a previous page.
            for (const chapter of order.slice(-3, -1).reverse()) {
                await turn('ArrowLeft', chapter);
            }
        });
    });
}

/** In the page: returns its text as it is now and as it is in the file. Scripts may only add buttons, and what
 * controls a player. */
function texts(file) {
    return [document, new DOMParser().parseFromString(file, 'text/html')].map(page => {
        const main = page.querySelector('main').cloneNode(true);
        main.querySelectorAll('.buttons, .controls, .calls').forEach(added => added.remove());
        return main.textContent.trim().replace(/\s+/g, ' ');
    });
}

inTab('text and navigation work without JavaScript', { javaScriptEnabled: false }, async (page, base) => {
    const order = chapters();
    for (const [i, chapter] of order.entries()) {
        await page.goto(base + chapter);
        assert.ok(await page.locator('main h1').isVisible(), chapter);
        for (const [rel, target] of [['prev', order[i - 1]], ['next', order[i + 1]]]) {
            const links = await page.locator(`a[rel~=${rel}]:visible`).evaluateAll(links => links.map(a => a.href));
            assert.deepEqual(links, target === undefined ? [] : [base + target], `${chapter}: ${rel}`);
        }
    }
    // The list of chapters opens with the keyboard, is complete, and its links work.
    await page.goto(base + 'index.html');
    const list = page.frameLocator('#mdbook-sidebar iframe');
    assert.ok(!await page.locator('#mdbook-sidebar').isVisible());
    await page.keyboard.press('Tab');
    await page.keyboard.press('Space');
    await list.locator('a[href]').first().waitFor();
    assert.equal(await list.locator('a[href]:visible').count(), order.length);
    await list.locator('a[href]').last().click();
    await page.waitForURL(base + order.at(-1));
});

inTab('a page is under 400 kB, and a first visit fetches under 300 kB compressed', { transport: 'http' }, async (page, base) => {
    const fetched = [];
    page.on('response', response => fetched.push(response));
    for (const chapter of chapters()) {
        fetched.length = 0;
        await page.goto(base + chapter);
        const bodies = await Promise.all(fetched
            .filter(response => !/\.(png|svg)$/.test(response.url()))
            .map(async response => ({ url: response.url(), body: await response.body() })));
        const html = bodies.find(({ url }) => url === base + chapter).body;
        assert.ok(html.length < 400 * KB, `${chapter}: ${html.length} bytes`);
        for (const kind of ['.css', '.js']) {
            assert.ok(bodies.some(({ url }) => url.endsWith(kind)), `${chapter} fetched no ${kind}, so it isn't a first visit`);
        }
        const packed = bodies.reduce((sum, { body }) => sum + gzipSync(body).length, 0);
        assert.ok(packed < 300 * KB, `${chapter}: ${packed} bytes in ${bodies.length} files`);
    }
});

inTab(`at ${WIDTHS.join(', ')} px only code and tables scroll sideways`, PHONE, async (page, base) => {
    for (const name of pages()) {
        await page.setViewportSize({ width: WIDTHS[0], height: 900 });
        await page.goto(base + name);
        await page.evaluate(unfold);
        for (const width of WIDTHS) {
            await page.setViewportSize({ width, height: 900 });
            assert.deepEqual(await page.evaluate(tooWide), [], `${name}, ${width} px`);
        }
        // At this width, a page opens with the list of chapters beside it.
        await page.click('#mdbook-sidebar-toggle');
        await page.locator('#mdbook-sidebar').waitFor();
        assert.deepEqual(await page.evaluate(tooWide), [], `${name}, with the list of chapters`);
        await page.click('#mdbook-sidebar-toggle');
    }
});

/** In the page: returns elements that are too wide for their place or for the window. */
function tooWide() {
    const mayScroll = 'pre > code, .table-wrapper';
    const shown = element => {
        const id = element.id ? '#' + element.id : '';
        return `${element.localName}${id} "${element.textContent.trim().slice(0, 40)}"`;
    };
    const found = [];
    const root = document.scrollingElement;
    if (root.scrollWidth > root.clientWidth) {
        found.push(`the page: ${root.scrollWidth} px`);
    }
    for (const element of document.querySelectorAll('body, #mdbook-sidebar *, #mdbook-page-wrapper, #mdbook-page-wrapper *')) {
        // The content of a scrolling box may be wide, but the box may not.
        if (element.parentElement.closest(mayScroll) || element.closest('svg') || !element.checkVisibility({ visibilityProperty: true })) {
            continue;
        }
        const style = getComputedStyle(element);
        if (element.scrollWidth > element.clientWidth && ['auto', 'scroll'].includes(style.overflowX) && !element.matches(mayScroll)) {
            found.push(`scrolls: ${shown(element)}`);
        }
        const box = element.getBoundingClientRect();
        if (box.right > root.clientWidth + 1 || box.left < -1) {
            found.push(`sticks out: ${shown(element)}`);
        }
    }
    return found;
}

inTab('on a phone, the code of the steps wraps, and is copied as it was written', PHONE, async (page, base) => {
    let seen = 0;
    for (const chapter of chapters()) {
        await page.goto(base + chapter);
        await page.evaluate(unfold);
        // The copy button takes `innerText`.
        const faults = await page.locator('pre > code').evaluateAll(boxes => boxes.flatMap(box => [
            ...box.innerText.trimEnd() === box.textContent.trimEnd() ? [] : [`copied: ${box.innerText}`],
            ...box.matches('.language-rust, .language-diff, .language-sh') && box.scrollWidth > box.clientWidth
                ? [`scrolls: ${box.innerText}`] : [],
        ]));
        assert.deepEqual(faults, [], chapter);
        seen += await page.locator('pre > code.language-rust').count();
    }
    assert.ok(seen > 10, 'no code: nothing was tested');
});

inTab('at 1100 and 1400 px beside the list of chapters no code scrolls', {}, async (page, base) => {
    for (const chapter of chapters()) {
        await page.goto(base + chapter);
        await page.evaluate(unfold);
        for (const width of [1100, 1400]) {
            await page.setViewportSize({ width, height: 900 });
            const wide = await page.locator('pre > code').evaluateAll(boxes => boxes
                .filter(box => box.scrollWidth > box.clientWidth)
                .map(box => box.textContent.split('\n').reduce((a, b) => a.length > b.length ? a : b)));
            assert.deepEqual(wide, [], `${chapter}, ${width} px`);
        }
    }
});

describe('transcripts', () => {
    const boxes = 'pre > code.language-console';

    inTab('show who wrote each line', {}, async (page, base) => {
        let [typed, own] = [0, 0];
        for (const chapter of chapters()) {
            await page.goto(base + chapter);
            await page.evaluate(unfold);
            const seen = await page.locator(boxes).evaluateAll(boxes => boxes.flatMap(box => {
                const color = element => getComputedStyle(element).color;
                return [...box.children].map(line => ({
                    text: line.textContent.trimEnd(),
                    dimmed: color(line) !== color(box),
                    prompt: line.querySelector('.prompt')?.textContent,
                    bold: Number(getComputedStyle(line.querySelector('kbd') ?? line).fontWeight) > 500,
                }));
            }));
            for (const { text, dimmed, prompt, bold } of seen) {
                const isOwn = /^((run |init )?PID: |pid: |init: first command of)/i.test(text);
                const isStatus = /^\[(exit status|killed by signal) \d+\]$/.test(text);
                const before = /^([$#] |inside: )/.exec(text)?.[0];
                const isTyped = Boolean(before) || /^\^[A-Z\\]/.test(text); // or a key, such as ^C
                assert.equal(dimmed, isOwn || isStatus, `${chapter}: ${text}`);
                assert.equal(prompt, before, `${chapter}: ${text}`);
                assert.equal(bold, isTyped, `${chapter}: ${text}`);
                typed += isTyped;
                own += isOwn;
            }
        }
        assert.ok(typed > 10 && own > 10, 'no transcripts: nothing was tested');
    });

    inTab('wrap on a phone, but keep columns', PHONE, async (page, base) => {
        let wrapped = 0;
        for (const chapter of chapters()) {
            await page.goto(base + chapter);
            await page.evaluate(unfold);
            const lines = await page.locator(boxes + ' > .line').evaluateAll(lines => lines.map(line => ({
                text: line.textContent.trimEnd(),
                columns: line.matches('.columns'),
                rows: Math.round(line.getBoundingClientRect().height / parseFloat(getComputedStyle(line).lineHeight)),
            })));
            for (const { text, columns, rows } of lines) {
                assert.ok(rows >= 1 && (rows === 1 || !columns), `${chapter}: ${rows} rows: ${text}`);
                wrapped += rows > 1;
            }
        }
        assert.ok(wrapped > 0, 'all lines are short: nothing was tested');
    });

    inTab('break lines between options and names, not in them', PHONE, async (page, base) => {
        let seen = 0;
        for (const chapter of chapters()) {
            await page.goto(base + chapter);
            await page.evaluate(unfold);
            const broken = await page.locator('pre > code .word, main p code .word').evaluateAll(words => words
                .filter(word => word.getClientRects().length > 1)
                .map(word => word.textContent));
            assert.deepEqual(broken, [], chapter);
            seen += await page.locator(boxes + ' .word', { hasText: /^--\w/ }).count();
        }
        assert.ok(seen > 10, 'no options: nothing was tested');
    });

    inTab('have a bold first line without JavaScript', { javaScriptEnabled: false }, async (page, base) => {
        await page.goto(base + 'introduction.html');
        const weight = await page.locator(boxes).first().evaluate(box => getComputedStyle(box, '::first-line').fontWeight);
        assert.equal(weight, '600');
    });
});

describe('with the keyboard', () => {
    /** Presses Tab until the focus is on an element. */
    async function tabTo(page, selector) {
        for (let presses = 0; presses < 200; presses++) {
            await page.keyboard.press('Tab');
            if (await page.evaluate(s => document.activeElement.matches(s), selector)) {
                return;
            }
        }
        assert.fail(`${selector} can't be reached with Tab`);
    }

    for (const width of [390, 1400]) {
        inTab(`the list of chapters opens and closes at ${width} px`, { viewport: { width, height: 900 } },
            async (page, base) => {
                await page.goto(base + 'index.html');
                const list = page.locator('#mdbook-sidebar');
                const toggle = page.locator('#mdbook-sidebar-toggle');
                const open = await list.isVisible();
                await tabTo(page, '#mdbook-sidebar-toggle');
                for (const [key, expected] of [['Enter', !open], ['Space', open], ['Space', !open]]) {
                    await page.keyboard.press(key);
                    await list.waitFor({ state: expected ? 'visible' : 'hidden' });
                    assert.equal(await toggle.getAttribute('aria-expanded'), String(expected));
                }
            });
    }

    inTab('the folds in the list of chapters open and close', {}, async (page, base) => {
        for (const chapter of chapters()) {
            await page.goto(base + chapter);
            const folds = await page.locator('#mdbook-sidebar .chapter-fold-toggle:visible').all();
            for (const fold of folds) {
                const before = await fold.getAttribute('aria-expanded');
                await fold.focus();
                assert.ok(await fold.evaluate(f => f === document.activeElement), 'takes the focus');
                await page.keyboard.press('Enter');
                assert.notEqual(await fold.getAttribute('aria-expanded'), before);
                await page.keyboard.press('Space');
                assert.equal(await fold.getAttribute('aria-expanded'), before);
            }
            if (folds.length > 0) {
                return; // One script makes them all.
            }
        }
    });

    inTab('code and tables scroll instead of turning the page', PHONE, async (page, base) => {
        let seen = 0;
        for (const chapter of chapters()) {
            await page.goto(base + chapter);
            await page.evaluate(unfold);
            // Boxes that scroll take the focus, and boxes that fit don't.
            const wrong = await page.locator('pre > code, .table-wrapper').evaluateAll(boxes => boxes
                .filter(box => (box.tabIndex === 0) !== (box.scrollWidth > box.clientWidth))
                .map(box => box.textContent));
            assert.deepEqual(wrong, [], chapter);
            for (const kind of ['pre > code', '.table-wrapper']) {
                const wide = page.locator(`:is(${kind})[tabindex="0"]`).first();
                if (await wide.count() > 0) {
                    seen += 1;
                    await wide.focus();
                    await page.keyboard.press('ArrowRight');
                    await page.waitForFunction(() => document.activeElement.scrollLeft > 0);
                    await page.keyboard.press('ArrowLeft');
                    assert.equal(page.url(), base + chapter);
                }
            }
        }
        assert.ok(seen > 0, 'all code fits: nothing was tested');
    });

    inTab('the copy button takes the focus and appears', {}, async (page, base) => {
        for (const chapter of chapters()) {
            await page.goto(base + chapter);
            if (await page.locator('pre').count() > 0) {
                await tabTo(page, '.clip-button');
                await page.waitForFunction(() => getComputedStyle(document.activeElement.parentElement).opacity === '1');
                return;
            }
        }
        assert.fail('no chapter has code: nothing was tested');
    });

    inTab('the theme menu offers two themes and the automatic choice', {},
        async (page, base) => {
            await page.goto(base + 'index.html');
            await tabTo(page, '#mdbook-theme-toggle');
            await page.keyboard.press('Enter');
            const entries = page.locator('#mdbook-theme-list button');
            assert.deepEqual(await entries.allInnerTexts(), ['Auto', 'Light', 'Dark']);
            await page.keyboard.press('Home');
            for (const name of ['Auto', 'Light', 'Dark']) {
                assert.equal(await page.evaluate(() => document.activeElement.innerText), name);
                await page.keyboard.press('ArrowDown');
            }
            await page.keyboard.press('Enter');
            assert.ok(await page.evaluate(() => document.documentElement.classList.contains('coal')));
        });
});

inTab('a theme from another book is replaced with ours', {}, async (page, base) => {
    for (const [saved, ours] of [['ayu', 'coal'], ['navy', 'coal'], ['rust', 'light'], ['coal', 'coal']]) {
        await page.goto(base + 'index.html');
        await page.evaluate(name => localStorage.setItem('mdbook-theme', name), saved);
        await page.reload();
        const worn = await page.evaluate(() => [...document.documentElement.classList]);
        assert.deepEqual(worn.filter(name => ['light', 'rust', 'coal', 'navy', 'ayu'].includes(name)), [ours], saved);
        await page.click('#mdbook-theme-toggle');
        assert.equal(await page.locator('#mdbook-theme-list .theme-selected').getAttribute('id'), `mdbook-theme-${ours}`);
    }
});

inTab('reduced motion changes the theme at once', {}, async (page, base) => {
    await page.goto(base + 'index.html');
    const seen = await page.evaluate(() => ['coal', 'light'].map(theme => {
        const before = getComputedStyle(document.querySelector('main p')).color;
        document.getElementById('mdbook-theme-' + theme).click();
        // getAnimations updates the styles, so it includes transitions that the click starts.
        const moving = document.getAnimations().map(({ effect, transitionProperty }) => `${effect.target.localName}: ${transitionProperty}`);
        return { moving, changed: getComputedStyle(document.querySelector('main p')).color !== before };
    }));
    assert.deepEqual(seen, Array(2).fill({ moving: [], changed: true }));
});
