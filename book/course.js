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

(function transcripts() {
    // Marks who wrote what: you, our program, the test, or the command. The text itself doesn't change.
    const OWN = /^(pid|run PID|init PID): |^init: first command of the container: /;
    const INPUT = /^([$#] |inside: )(.*\n?)|^(\^[A-Z\\])(.*\n?)/; // after a prompt, or a key such as ^C
    const COLUMNS = /\S {2,}\S|[│├└]/;
    // The first words of a long line stay visible: its indentation with a label such as `why:`, or all columns but the
    // last.
    const INDENT = /^(?: {2,}(?:[a-z]+: +)?)?/;
    const FIRST_COLUMNS = /^.{0,60}(?: {2,}|[│├└]─? )(?=\S)/;

    function element(name, className, text) {
        const made = document.createElement(name);
        made.className = className;
        made.textContent = text;
        return made;
    }

    for (const code of document.querySelectorAll('pre > code:is(.language-console, .language-text)')) {
        const lines = code.textContent.split(/(?<=\n)/);
        code.replaceChildren(...lines.map(text => {
            const typed = code.matches('.language-console') && INPUT.exec(text);
            if (typed) {
                const line = element('span', 'line typed', '');
                const [, prompt, input, key, output] = typed;
                line.append(...prompt ? [element('span', 'prompt', prompt)] : []);
                line.append(element('kbd', '', input ?? key), output ?? '');
                return line;
            }
            const kind = OWN.test(text) ? 'own'
                : /^\[exit status \d+\]$/.test(text.trimEnd()) ? 'status'
                : COLUMNS.test(text.replace(INDENT, '')) ? 'columns' : 'output';
            const line = element('span', 'line ' + kind, text);
            const start = (kind === 'columns' && FIRST_COLUMNS.exec(text) || INDENT.exec(text))[0];
            line.style.setProperty('--indent', start.length || 2);
            return line;
        }));
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

(function print() {
    // Opens folded answers in browsers from before 2025, which can't do it in course.css.
    let opened = [];
    window.addEventListener('beforeprint', () => {
        opened = Array.from(document.querySelectorAll('details:not([open])'));
        opened.forEach(details => { details.open = true; });
    });
    window.addEventListener('afterprint', () => opened.forEach(details => { details.open = false; }));
})();
