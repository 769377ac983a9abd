// Tests the player of slow motion: with the mouse and the keyboard, without JavaScript and on paper.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { chapters, launch, tab, transports } from './book.mjs';

let browser, book;
const found = [];
before(async () => {
    book = await transports();
    browser = await launch();
    const { page, close } = await tab(browser, book.file);
    for (const chapter of chapters()) {
        await page.goto(book.file + chapter);
        const players = await page.locator('.player').count();
        assert.ok(players <= 1, `${chapter}: this test takes the first player`);
        if (players === 1) {
            found.push(chapter);
        }
    }
    await close();
    assert.equal(found.length, 7, `players in ${found}`);
});
after(async () => {
    await browser?.close();
    book?.close();
});

/** Runs a test on every page with a player, in one tab. */
function onEach(name, options, look) {
    test(name, async () => {
        const { page, faults, close } = await tab(browser, book.file, options);
        for (const chapter of found) {
            await page.goto(book.file + chapter);
            await look(page, page.locator('.player').first(), chapter);
        }
        assert.deepEqual(faults, []);
        await close();
    });
}

/** Returns the number of the visible frame, after checking that everything shows the same one. */
async function shown(player) {
    const frame = player.locator('.frame:visible');
    assert.equal(await frame.count(), 1, 'one frame');
    const number = Number.parseInt(await frame.locator('.doing').textContent(), 10);
    const count = await player.locator('.frame').count();
    assert.equal((await player.locator('.position > :first-child').textContent()), `${number} of ${count}`);
    const [current] = await player.locator('.calls button').evaluateAll(buttons => [
        buttons.flatMap((button, i) => button.getAttribute('aria-current') ? [i + 1] : []),
    ]);
    assert.deepEqual(current, [number]);
    return number;
}

onEach('it starts at the frame that the text talks about', {}, async (page, player, chapter) => {
    await shown(player);
    const start = await player.getAttribute('data-start');
    const call = await player.locator('.frame:visible .call').textContent();
    assert.ok(start && call.startsWith(start), `${chapter}: ${start}: ${call}`);
});

onEach('buttons and the list of calls turn its frames', {}, async (page, player) => {
    const first = await shown(player);
    await player.getByRole('button', { name: 'Next' }).click();
    assert.equal(await shown(player), first + 1);
    assert.match(await player.locator('.spoken').textContent(), /\S/, 'a screen reader hears the frame');
    await player.getByRole('button', { name: 'Previous' }).click();
    assert.equal(await shown(player), first);
    const last = await player.locator('.frame').count();
    for (const number of [1, last]) {
        await player.locator('.calls button').nth(number - 1).click();
        assert.equal(await shown(player), number);
    }
});

onEach('keys turn its frames and not the page', {}, async (page, player, chapter) => {
    const last = await player.locator('.frame').count();
    const next = player.getByRole('button', { name: 'Next' });
    await next.focus();
    for (const [key, number] of [['Home', 1], ['ArrowLeft', 1], ['ArrowRight', 2], ['Enter', 3], ['End', last], ['ArrowRight', last]]) {
        await page.keyboard.press(key);
        assert.equal(await shown(player), number, key);
    }
    // Its list of calls is one stop, and arrows move in it.
    await page.keyboard.press('Tab');
    for (const [key, number] of [['ArrowUp', last - 1], ['Home', 1], ['ArrowDown', 2]]) {
        await page.keyboard.press(key);
        assert.equal(await shown(player), number, key);
        assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-current')), 'step');
    }
    await page.keyboard.press('Tab');
    assert.ok(!await player.evaluate(player => player.contains(document.activeElement)), 'Tab leaves it');
    assert.equal(page.url(), book.file + chapter);
});

onEach('keys turn its frames after a click on a picture', {}, async (page, player) => {
    const first = await shown(player);
    await player.locator('.frame:visible svg').click();
    await page.keyboard.press('ArrowRight');
    assert.equal(await shown(player), first + 1);
});

onEach('nothing jumps from frame to frame', {}, async (page, player) => {
    const place = () => player.evaluate(player => {
        const { top, height } = player.getBoundingClientRect();
        return { height, picture: player.querySelector('.current svg').getBoundingClientRect().top - top };
    });
    const before = await place();
    for (const number of [0, -1]) {
        await player.locator('.calls button').nth(number).click();
        assert.deepEqual(await place(), before);
    }
});

// A call can have an effect that no box shows, so only some frames have a changed one.
onEach('a new process has a highlighted box', {}, async (page, player) => {
    const changed = await player.locator('.frame:has(rect[stroke-width="3"])').count();
    assert.ok(changed >= 4, `${changed} frames`);
});

onEach('without JavaScript its frames follow each other', { javaScriptEnabled: false }, async (page, player) => {
    assert.equal(await player.locator('.frame:visible').count(), 0, 'folded');
    await player.locator('summary').click();
    const frames = player.locator('.frame');
    assert.equal(await player.locator('.frame:visible').count(), await frames.count());
    const [first, second] = [await frames.nth(0).boundingBox(), await frames.nth(1).boundingBox()];
    assert.ok(second.y >= first.y + first.height);
});

onEach('on paper its frames follow each other', {}, async (page, player) => {
    await page.emulateMedia({ media: 'print' });
    const frames = player.locator('.frame');
    assert.equal(await player.locator('.frame:visible').count(), await frames.count());
    const [first, second] = [await frames.nth(0).boundingBox(), await frames.nth(1).boundingBox()];
    assert.ok(second.y >= first.y + first.height);
    assert.equal(await player.locator('button:visible').count(), 0);
    await page.emulateMedia({ media: 'screen' });
});
