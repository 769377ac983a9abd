// What a style sheet cannot mend in mdBook's pages. They can be read without it: see course.css.
'use strict';

(function themes() {
    // course.css knows light and dark, and so do the readers. Whoever comes with another of mdBook's themes, saved by
    // another book at the same address, gets the one of ours that is as light or as dark.
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
    // Some of mdBook's controls answer the mouse only: the label that opens the list of chapters, and the links without
    // an address that fold its parts.
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

    // The field's name is a text that goes away with the first letter, and its description has another ID.
    const search = document.getElementById('mdbook-searchbar');
    search.setAttribute('aria-label', 'Search this book');
    search.setAttribute('aria-describedby', 'mdbook-searchresults-header');

    // The folds of the page's own headings come with DOMContentLoaded, and open and close as the reader scrolls.
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

(function sideways() {
    // What scrolls must take the focus, or a keyboard cannot scroll it. What fits must not: it would only be in the way.
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
        // To the rest of the page these two keys mean the previous and the next chapter.
        element.addEventListener('keydown', event => {
            if (event.key === 'ArrowLeft' || event.key === 'ArrowRight') {
                event.stopPropagation();
            }
        });
    }
})();

(function print() {
    // course.css opens what is folded; this is for browsers that cannot do it there (before 2025).
    let opened = [];
    window.addEventListener('beforeprint', () => {
        opened = Array.from(document.querySelectorAll('details:not([open])'));
        opened.forEach(details => { details.open = true; });
    });
    window.addEventListener('afterprint', () => opened.forEach(details => { details.open = false; }));
})();
