// Improves mdBook's pages where a style sheet can't. The pages are readable without it: see course.css.
'use strict';

(function themes() {
    // course.css has a light and a dark theme. Another book at the same address may have saved a different one of
    // mdBook's themes. Replace it with ours that is as light or as dark.
    const named = name => document.getElementById('mdbook-theme-' + name);
    const saved = document.querySelector('#mdbook-theme-list .theme-selected').id;
    const offered = ['default_theme', 'light', 'coal'].map(named);
    if (!offered.includes(document.getElementById(saved))) {
        const dark = getComputedStyle(document.documentElement).colorScheme === 'dark';
        named(dark ? 'coal' : 'light').click();
    }
    for (const button of document.querySelectorAll('#mdbook-theme-list .theme')) {
        if (!offered.includes(button)) {
            button.parentElement.remove();
        }
    }
    named('coal').textContent = 'Dark';
})();

(function controls() {
    // Some of mdBook's controls react only to the mouse: the label that opens the list of chapters, and the links
    // without an address that fold its parts.
    function makeButton(element) {
        element.setAttribute('role', 'button');
        element.tabIndex = 0;
        element.addEventListener('keydown', event => {
            if (event.key === 'Enter' || event.key === ' ') {
                event.preventDefault();
                element.click();
            }
        });
    }

    makeButton(document.getElementById('mdbook-sidebar-toggle'));

    // Screen readers jump between landmarks. These two lack the role.
    document.getElementById('mdbook-menu-bar').setAttribute('role', 'banner');
    document.getElementById('mdbook-search-wrapper').setAttribute('role', 'search');

    // The search field's placeholder disappears with the first letter, and its description has a wrong ID.
    const search = document.getElementById('mdbook-searchbar');
    search.setAttribute('aria-label', 'Search this book');
    search.setAttribute('aria-describedby', 'mdbook-searchresults-header');

    // mdBook adds the page's own headings on DOMContentLoaded, and folds them as you scroll.
    document.addEventListener('DOMContentLoaded', () => {
        const sidebar = document.getElementById('mdbook-sidebar');
        const folds = sidebar.querySelectorAll('.chapter-fold-toggle');
        const tellState = () => folds.forEach(fold => {
            fold.setAttribute('aria-expanded', fold.closest('li').classList.contains('expanded'));
        });
        folds.forEach(fold => {
            makeButton(fold);
            fold.setAttribute('aria-label', 'Sections of ' + fold.previousElementSibling.textContent);
        });
        tellState();
        new MutationObserver(tellState).observe(sidebar, { subtree: true, attributeFilter: ['class'] });
    });
})();

/** Replaces texts in an element, and leaves its other parts as they are. */
function eachText(element, replace) {
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    const texts = [];
    while (walker.nextNode()) {
        texts.push(walker.currentNode);
    }
    for (const text of texts) {
        const parts = replace(text.data);
        if (parts.length > 1) {
            text.replaceWith(...parts);
        }
    }
}

/** Keeps options and names in one piece, because browsers may break a line after any hyphen. */
function keepWords(element, longest = 30, words = /(?<!\S)(?=\S*-)(\S{2,})(?!\S)/) {
    eachText(element, text => text.split(words).map((part, i) => {
        if (i % 2 === 0 || part.length > longest) {
            return part;
        }
        const word = document.createElement('span');
        word.className = 'word';
        word.textContent = part;
        return word;
    }));
}

/** Adds places for a line break to long words, because browsers would break them in the middle of a name. */
function addBreaks(element, places, longest) {
    eachText(element, text => text
        .replace(/\S+/g, word => word.length > longest ? word.replace(places, '\0') : word)
        .split('\0').flatMap((part, i) => i === 0 ? [part] : [document.createElement('wbr'), part]));
}

(function words() {
    for (const code of document.querySelectorAll('main :not(pre) > code')) {
        if (code.closest('td')) {
            // A column has no room for a whole name.
            keepWords(code, 14);
            addBreaks(code, /(?<=\w[_(/]|::|[{|])(?=[^\s)])|(?<=\S)(?=[.]\w+)/g, 12);
        } else {
            keepWords(code);
        }
        if (code.closest('h3')) {
            addBreaks(code, /(?<=\w[(/]|[|])(?=\w)/g, 24);
        }
    }
})();

(function transcripts() {
    // Marks who wrote what: you, our program, the test, or the command. The text itself doesn't change, and the newlines
    // stay between the lines, because the copy button would double those at the end of a block.
    const OWN = /^(pid|run PID|init PID): |^init: first command of the container: /;
    const INPUT = /^([$#] |inside: )(.*)|^(\^[A-Z\\])(.*)/; // after a prompt, or a key such as ^C
    const COLUMNS = /\S {2,}\S|[│├└]/;
    // The first words of a long line stay visible: its indentation with a label such as `why:`, or all columns but the
    // last.
    const INDENT = /^(?: {2,}(?:[a-z]+: +)?)?/;
    const FIRST_COLUMNS = /^.{0,60}(?: {2,}|[│├└]─? )(?=\S)/;

    function element(name, className, text) {
        const made = document.createElement(name);
        made.className = className;
        made.textContent = text;
        keepWords(made);
        return made;
    }

    function lineOf(text, isConsole) {
        const typed = isConsole && INPUT.exec(text);
        if (typed) {
            const line = element('span', 'line typed', '');
            const [, prompt, input, key, output = ''] = typed;
            line.append(...prompt ? [element('span', 'prompt', prompt)] : []);
            line.append(element('kbd', '', input ?? key), OWN.test(output) ? element('span', 'own', output) : output);
            return line;
        }
        const kind = OWN.test(text) ? 'own'
            : /^\[(exit status|killed by signal) \d+\]$/.test(text) ? 'status'
            : COLUMNS.test(text.replace(INDENT, '')) ? 'columns' : 'output';
        const line = element('span', 'line ' + kind, text);
        const start = (kind === 'columns' && FIRST_COLUMNS.exec(text) || INDENT.exec(text))[0];
        line.style.setProperty('--indent', start.length || 2);
        line.classList.toggle('deep', text.startsWith(' '.repeat(8)) && kind === 'output');
        if (kind !== 'columns') {
            addBreaks(line, /(?<=\w[_(]|[|])(?=\w)/g, 40);
        }
        return line;
    }

    for (const code of document.querySelectorAll('pre > code:is(.language-console, .language-text)')) {
        const lines = code.textContent.replace(/\n$/, '').split('\n');
        code.replaceChildren(...lines.flatMap(text => [lineOf(text, code.matches('.language-console')), '\n']));
    }
})();

(function code() {
    // Puts every line of code into a `.line`, too, so that long lines wrap behind their own indentation.
    const START = /^[-+]? *(\/\/[/!]? )?/;

    /** Removes the first line from an element. A line can end inside of elements that color several lines. */
    function takeLine(code) {
        const texts = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
        const range = new Range();
        range.selectNodeContents(code);
        while (texts.nextNode()) {
            const end = texts.currentNode.data.indexOf('\n');
            if (end >= 0) {
                texts.currentNode.deleteData(end, 1);
                range.setEnd(texts.currentNode, end);
                break;
            }
        }
        const line = document.createElement('span');
        line.className = 'line';
        line.append(range.extractContents());
        return line;
    }

    for (const code of document.querySelectorAll('pre > code:is(.language-rust, .language-diff, .language-sh)')) {
        const lines = [];
        while (code.textContent !== '') {
            const line = takeLine(code);
            const [start, comment] = START.exec(line.textContent);
            line.style.setProperty('--indent', Math.min(start.length + (comment ? 0 : 4), 24));
            for (const kind of ['addition', 'deletion']) {
                line.classList.toggle(kind, line.querySelector('.hljs-' + kind) !== null);
            }
            keepWords(line, 30, /(?<!\S)(--?\w\S*)/);
            addBreaks(line, /(?<=\w[(]|[|])(?=[^\s)\d]|$)|(?<=\S)(?=[.]\w+[(])/g, 0);
            addBreaks(line, /(?<=\w_)(?=\w)/g, 40);
            lines.push(line, '\n');
        }
        code.replaceChildren(...lines);
    }
})();

(function columns() {
    // course.css gives a table's cells a minimum width on phones. A column of short words or numbers needs less.
    for (const { tHead, tBodies } of document.querySelectorAll('main table')) {
        const rows = Array.from(tBodies[0].rows);
        Array.from(tHead.rows[0].cells, (_, i) => rows.map(row => row.cells[i]))
            .forEach(cells => {
                const longest = Math.max(...cells.map(cell => cell.textContent.length));
                const kind = longest <= 10 ? 'short' : 'narrow';
                if (longest <= 16) {
                    cells.forEach(cell => cell.classList.add(kind));
                }
            });
    }
})();

(function sideways() {
    // A box that scrolls has to take the focus, or the keyboard can't scroll it. A box that fits shouldn't be a stop.
    function update(element) {
        if (element.scrollWidth > element.clientWidth) {
            element.tabIndex = 0;
            element.setAttribute('role', 'group');
            element.setAttribute('aria-label', element.matches('code') ? 'Code, scrolls sideways' : 'Table, scrolls sideways');
        } else {
            for (const name of ['tabindex', 'role', 'aria-label']) {
                element.removeAttribute(name);
            }
        }
    }

    const observer = new ResizeObserver(entries => entries.forEach(entry => update(entry.target)));
    for (const element of document.querySelectorAll('pre > code, .table-wrapper')) {
        observer.observe(element);
        // Elsewhere on the page, these keys turn to the previous and the next chapter.
        element.addEventListener('keydown', event => {
            if (event.key === 'ArrowLeft' || event.key === 'ArrowRight') {
                event.stopPropagation();
            }
        });
    }
})();

(function slowMotion() {
    // Turns the frames of slow motion, a folded list, into a player. `data-start` has the start of the call that the
    // text talks about.
    function make(tag, properties, ...children) {
        const made = Object.assign(document.createElement(tag), properties);
        made.append(...children);
        return made;
    }

    for (const player of document.querySelectorAll('.player')) {
        const folded = player.querySelector('details');
        const list = folded.querySelector('ol');
        const frames = Array.from(list.children);
        const text = (frame, name) => frame.querySelector('.' + name)?.textContent ?? '';
        const title = make('p', { className: 'player-title' }, ...folded.querySelector('summary').childNodes);
        const [previous, next] = ['Previous', 'Next'].map(word => make('button', { type: 'button', textContent: word }));
        const position = make('span', {});
        const spoken = make('span', { className: 'spoken' });
        const status = make('p', { className: 'position' }, position, spoken);
        status.setAttribute('role', 'status');
        const keys = make('p', { className: 'keys', textContent: 'or the keys ← and →' });
        const controls = make('div', { className: 'controls' }, previous, status, next, keys);
        const calls = make('ol', { className: 'calls' }, ...frames.map(frame => {
            // "3. run (PID HOST_A) calls" becomes "run", but "run returns from" keeps its verb.
            const who = text(frame, 'doing').replace(/^\d+\. | \(.*\)| calls$/g, '');
            const button = make('button', { type: 'button' }, who + ' ', make('code', { textContent: text(frame, 'call') }));
            return make('li', {}, button);
        }));
        const buttons = Array.from(calls.querySelectorAll('button'));
        let current = Math.max(0, frames.findIndex(frame => text(frame, 'call').startsWith(player.dataset.start)));

        function show(index, isNews = true) {
            current = Math.min(Math.max(index, 0), frames.length - 1);
            frames.forEach((frame, i) => frame.classList.toggle('current', i === current));
            buttons.forEach((button, i) => {
                button.tabIndex = i === current ? 0 : -1; // one stop for the Tab key
                if (i === current) {
                    button.setAttribute('aria-current', 'step');
                } else {
                    button.removeAttribute('aria-current');
                }
            });
            // A disabled button would lose the focus.
            previous.setAttribute('aria-disabled', String(current === 0));
            next.setAttribute('aria-disabled', String(current === frames.length - 1));
            position.textContent = `${current + 1} of ${frames.length}`;
            if (isNews) {
                const words = ['doing', 'call', 'meaning', 'result'].map(name => text(frames[current], name));
                spoken.textContent = ': ' + words.join(' ');
            }
            const { offsetTop, offsetHeight } = buttons[current].parentElement;
            calls.scrollTop = offsetTop - (calls.clientHeight - offsetHeight) / 2;
        }

        previous.addEventListener('click', () => show(current - 1));
        next.addEventListener('click', () => show(current + 1));
        buttons.forEach((button, index) => button.addEventListener('click', () => show(index)));
        player.addEventListener('keydown', event => {
            const inList = calls.contains(event.target);
            const target = {
                ArrowLeft: current - 1,
                ArrowRight: current + 1,
                Home: 0,
                End: frames.length - 1,
                ...inList && { ArrowUp: current - 1, ArrowDown: current + 1 },
            }[event.key];
            if (target === undefined || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) {
                return;
            }
            // Elsewhere on the page, these keys turn to the previous and the next chapter.
            event.preventDefault();
            event.stopPropagation();
            show(target);
            if (inList) {
                buttons[current].focus({ preventScroll: true });
            }
        });

        player.tabIndex = -1; // the keys also work after a click on a picture
        player.setAttribute('role', 'group');
        player.setAttribute('aria-label', title.textContent);
        list.className = 'frames';
        calls.setAttribute('aria-label', 'Calls');
        player.classList.add('playing');
        player.replaceChildren(title, controls, calls, list);
        show(current, false);
    }
})();

(function print() {
    // Opens folded answers in browsers from before 2025, which can't do it in course.css.
    let opened = [];
    window.addEventListener('beforeprint', () => {
        opened = Array.from(document.querySelectorAll('details:not([open])'));
        opened.forEach(details => { details.open = true; });
    });
    window.addEventListener('afterprint', () => opened.forEach(details => { details.open = false; }));
})();
