// Tests how the book looks, on the screen and on paper and to a screen reader, in every theme. They read it from the
// disk, because the pages are the same over HTTP.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import axe from 'axe-core';

import { chapters, launch, pages, tab, themes, transports, unfold } from './book.mjs';

let browser, book, offered;
before(async () => {
    book = await transports();
    browser = await launch();
    offered = await themes(browser, book.file);
});
after(async () => {
    await browser?.close();
    book?.close();
});

const PHONE = { viewport: { width: 390, height: 900 }, deviceScaleFactor: 2 };
const DESK = { viewport: { width: 1400, height: 900 } };
// The inside of an A4 page with the margins that browsers give it.
const PAPER = { viewport: { width: 718, height: 1000 }, deviceScaleFactor: 2 };

/** Returns axe's critical, serious and moderate findings in a part of the page, one line each. */
async function faultsByAxe(page, { part = 'html', colors = true } = {}) {
    await page.evaluate(axe.source);
    const { violations, passes } = await page.evaluate(([part, colors]) => window.axe.run(part, {
        resultTypes: ['violations'],
        rules: {
            'target-size': { enabled: true }, // 24 px: new in WCAG 2.2, and off by default
            'color-contrast': { enabled: colors },
        },
    }), [part, colors]);
    assert.ok(passes.length > 0, 'axe looked at nothing');
    return violations
        .filter(violation => ['critical', 'serious', 'moderate'].includes(violation.impact))
        .flatMap(({ id, nodes }) => nodes.map(node => `${id}: ${node.target.join(' ')}: ${node.failureSummary}`));
}

describe('axe accepts', () => {
    test('every page in every theme', async () => {
        for (const theme of offered) {
            const { page, close } = await tab(browser, book.file, { theme, ...DESK });
            for (const chapter of chapters()) {
                await page.goto(book.file + chapter);
                await page.evaluate(unfold);
                assert.deepEqual(await faultsByAxe(page), [], `${chapter}, ${theme}`);
            }
            await close();
        }
    });

    // Here the pages follow each other, so IDs could collide. Colors were tested above.
    test('the page with the whole book', async () => {
        const { page, close } = await tab(browser, book.file, DESK);
        await page.goto(book.file + 'print.html');
        await page.evaluate(unfold);
        assert.deepEqual(await faultsByAxe(page, { colors: false }), []);
        await close();
    });

    const states = {
        'an open list of chapters on a phone': async page => {
            await page.click('#mdbook-sidebar-toggle');
            await page.locator('#mdbook-sidebar a').first().click({ trial: true });
        },
        'search results': async page => {
            await page.keyboard.press('/');
            await page.keyboard.type('NSpid');
            await page.locator('#mdbook-searchresults li').first().waitFor();
            await page.keyboard.press('ArrowDown');
        },
        'marked search terms': async page => {
            await page.goto(page.url() + '?highlight=process');
            await page.locator('main mark').first().waitFor();
        },
        // These two cover parts of the page, so only they are checked.
        'the open theme menu': async page => {
            await page.click('#mdbook-theme-toggle');
            return '#mdbook-theme-list';
        },
        'the open help': async page => {
            await page.keyboard.press('?');
            return '#mdbook-help-container';
        },
    };
    test(Object.keys(states).join(', '), async () => {
        for (const theme of offered) {
            const { page, close } = await tab(browser, book.file, { theme, ...PHONE });
            for (const [state, reach] of Object.entries(states)) {
                await page.goto(book.file + chapters().at(-1));
                const part = await reach(page);
                assert.deepEqual(await faultsByAxe(page, { part }), [], `${state}, ${theme}`);
            }
            await close();
        }
    });
});

describe('pictures', () => {
    const illustrated = [];

    test('have a title, a description and a figure around them', async () => {
        const { page, close } = await tab(browser, book.file);
        for (const chapter of chapters()) {
            await page.goto(book.file + chapter);
            const faults = await page.locator('main svg').evaluateAll(found => found.flatMap(svg => {
                // mdBook's icons in alerts and on buttons.
                if (svg.closest('.fa-svg, .blockquote-tag-title, .buttons')) {
                    return [];
                }
                const says = tag => svg.querySelector(`:scope > ${tag}`)?.textContent.trim();
                const name = says('title') ?? svg.outerHTML.slice(0, 80);
                return [
                    [svg.closest('figure.picture'), 'is not in a <figure class="picture">'],
                    [svg.getAttribute('role') === 'img', 'has no role="img"'],
                    [svg.hasAttribute('viewBox'), 'has no viewBox'],
                    [says('title'), 'has no <title>'],
                    [says('desc'), 'has no <desc>'],
                ].filter(([good]) => !good).map(([, fault]) => `"${name}" ${fault}`);
            }));
            assert.deepEqual(faults, [], chapter);
            if (await page.locator('main .picture svg').count() > 0) {
                illustrated.push(chapter);
            }
        }
        assert.ok(illustrated.length > 0, 'the book has no picture: nothing was tested');
        await close();
    });

    // On a wide screen a picture is the same, only larger. On paper the theme matters only if a dark one makes it pale.
    const views = { 'on a phone in every theme': [PHONE, () => offered], 'on paper': [PAPER, () => offered.slice(-1)] };
    for (const [where, [view, worn]] of Object.entries(views)) {
        test(`are readable ${where}`, async () => {
            for (const theme of worn()) {
                const { page, close } = await tab(browser, book.file, { theme, ...view });
                if (view === PAPER) {
                    await page.emulateMedia({ media: 'print' });
                }
                for (const chapter of illustrated) {
                    await page.goto(book.file + chapter);
                    await page.evaluate(unfold);
                    // On the screen, a player shows one of its frames. Paper has them all.
                    for (const figure of await page.locator('main .picture:visible').all()) {
                        const shot = await figure.screenshot();
                        const faults = await figure.evaluate(unreadable, shot.toString('base64'));
                        assert.deepEqual(faults, [], `${chapter}, ${theme}`);
                    }
                }
                await close();
            }
        });
    }
});

/** In the page: returns the unreadable parts of a figure's pictures. `shot` is a screenshot of the figure, which has
 * the final colors, whatever style sheets and backgrounds made them. */
async function unreadable(figure, shot) {
    const place = figure.getBoundingClientRect();
    const bitmap = await createImageBitmap(await (await fetch('data:image/png;base64,' + shot)).blob());
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const drawing = canvas.getContext('2d', { willReadFrequently: true });
    drawing.drawImage(bitmap, 0, 0);

    const linear = value => value <= 10.31475 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4;
    /** Returns WCAG's contrast between the darkest and the lightest point in a part of the figure. */
    const contrast = box => {
        const scale = bitmap.width / place.width;
        const [x, y, width, height] = [box.x - place.x, box.y - place.y, box.width, box.height].map(n => Math.round(n * scale));
        const { data } = drawing.getImageData(x, y, Math.max(1, width), Math.max(1, height));
        let [darkest, lightest] = [1, 0];
        for (let i = 0; i < data.length; i += 4) {
            const light = 0.2126 * linear(data[i]) + 0.7152 * linear(data[i + 1]) + 0.0722 * linear(data[i + 2]);
            darkest = Math.min(darkest, light);
            lightest = Math.max(lightest, light);
        }
        return (lightest + 0.05) / (darkest + 0.05);
    };

    const faults = [];
    for (const svg of figure.querySelectorAll('svg')) {
        const name = svg.querySelector('title').textContent;
        const frame = svg.getBoundingClientRect();
        if (frame.width < 100 || frame.height < 20) {
            faults.push(`"${name}" is ${frame.width} by ${frame.height} px`);
            continue;
        }
        if (contrast(frame) < 3) {
            faults.push(`"${name}" is invisible: contrast ${contrast(frame).toFixed(1)}`);
        }
        const letters = [...svg.querySelectorAll('text')].map(text => ({
            says: `"${name}": "${text.textContent.trim()}"`,
            box: text.getBoundingClientRect(),
            size: parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a,
        }));
        const rects = [...svg.querySelectorAll('rect')].map(rect => rect.getBoundingClientRect());
        for (const { says, box, size } of letters) {
            const middle = (box.top + box.bottom) / 2;
            const around = rects.filter(rect => rect.left < box.left && box.left < rect.right && rect.top < middle && middle < rect.bottom);
            if (around.some(rect => box.right > rect.right)) {
                faults.push(`${says} leaves its box`);
            }
            if (size < 11) {
                faults.push(`${says} is ${size.toFixed(1)} px high`);
            }
            if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1) {
                faults.push(`${says} is cut off`);
            } else if (contrast(box) < 4.5) {
                faults.push(`${says} has a contrast of ${contrast(box).toFixed(1)}`);
            }
            for (const other of letters) {
                const across = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
                const down = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
                if (other.box !== box && across > 1 && down > size / 3) {
                    faults.push(`${says} lies on ${other.says}`);
                }
            }
        }
    }
    return faults;
}

describe('on paper', () => {
    // A dark theme is the harder case, because its letters were made for a dark background.
    for (const javaScriptEnabled of [true, false]) {
        test(`nothing is hidden, cut off or pale ${javaScriptEnabled ? 'with' : 'without'} JavaScript`, async () => {
            const { page, close } = await tab(browser, book.file, { colorScheme: 'dark', ...PAPER, javaScriptEnabled });
            await page.emulateMedia({ media: 'print' });
            for (const name of pages()) {
                await page.goto(book.file + name);
                assert.deepEqual(await page.evaluate(lostInPrint), [], name);
            }
            await close();
        });
    }

    test('the course on one page is one page', async () => {
        const { page, close } = await tab(browser, book.file);
        await page.goto(book.file + 'overview.html');
        for (const format of ['A4', 'Letter']) {
            const pdf = await page.pdf({ format });
            const sheets = pdf.toString('latin1').match(/\/Type\s*\/Page\b/g) ?? [];
            assert.equal(sheets.length, 1, format);
        }
        await close();
    });

    test('a script opens folded answers in older browsers, and folds them again', async () => {
        const { page, close } = await tab(browser, book.file);
        for (const chapter of chapters()) {
            await page.goto(book.file + chapter);
            const all = await page.locator('details').count();
            if (all > 0) {
                const open = () => page.locator('details[open]').count();
                const before = await open();
                await page.evaluate(() => dispatchEvent(new Event('beforeprint')));
                assert.equal(await open(), all, chapter);
                await page.evaluate(() => dispatchEvent(new Event('afterprint')));
                assert.equal(await open(), before, chapter);
                assert.ok(before < all, `${chapter}: nothing was folded`);
                return close();
            }
        }
        assert.fail('the book folds nothing: nothing was tested');
    });
});

/** In the printed page: returns invisible text and boxes that cut off their content. axe can't find these, because it
 * assumes that backgrounds are printed, and doesn't run without JavaScript. */
function lostInPrint() {
    const lost = [];
    const linear = value => value <= 10.31475 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4;
    const contrastWithWhite = color => {
        const [r, g, b] = color.match(/[\d.]+/g).map(Number).map(linear);
        return 1.05 / (0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05);
    };
    const words = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
    while (words.nextNode()) {
        const text = words.currentNode.data.trim();
        const element = words.currentNode.parentElement;
        // Titles and descriptions of pictures are for screen readers, and paper has no buttons.
        if (!text || element.closest('title, desc, .buttons, .controls, .calls')) {
            continue;
        }
        const range = document.createRange();
        range.selectNodeContents(words.currentNode);
        const box = range.getBoundingClientRect();
        if (!element.checkVisibility({ visibilityProperty: true, opacityProperty: true, contentVisibilityAuto: true }) || box.height === 0) {
            lost.push(`hidden: "${text.slice(0, 60)}"`);
        } else if (box.right > document.documentElement.clientWidth + 1) {
            lost.push(`off the paper: "${text.slice(0, 60)}"`);
        } else if (contrastWithWhite(getComputedStyle(element)[element.closest('svg') ? 'fill' : 'color']) < 4.5) {
            lost.push(`pale: "${text.slice(0, 60)}"`);
        }
    }
    for (const element of document.querySelectorAll('main, main *')) {
        const { overflowX, overflowY } = getComputedStyle(element);
        if (overflowX !== 'visible' && element.scrollWidth > element.clientWidth + 1
            || overflowY !== 'visible' && element.scrollHeight > element.clientHeight + 1) {
            if (!element.closest('svg, .buttons')) {
                lost.push(`cut off: "${element.textContent.trim().slice(0, 60)}"`);
            }
        }
    }
    return lost;
}
