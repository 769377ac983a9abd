//! Constructions that made readers stop, and the places where they're right.

/// A construction to avoid.
pub struct Pattern {
    /// The advice for the author.
    pub name: &'static str,
    /// The regular expression that finds it, regardless of case.
    pub regex: &'static str,
    /// Phrases that match and are right.
    pub except: &'static [&'static str],
}

/// Words and phrases to avoid. A statement's first word has its own rule in `book.rs`, because that rule depends on the
/// place.
pub const PATTERNS: &[Pattern] = &[
    Pattern {
        name: "say \"its own\" or \"a separate\"",
        regex: r"\bof (its|one's|their|your|our) own([^\w\s]|$| (and|or|that|which|with|in|for|to|from|on|at|is|has|below|outside|inside)\b)",
        except: &[],
    },
    Pattern { name: "say \"your own\" or name the owner", regex: r"\bone's own\b", except: &[] },
    Pattern {
        name: "say \"inside\" or \"outside the container\"",
        regex: r"\bin (there|here)\b",
        except: &[],
    },
    Pattern {
        name: "name the process, program or person",
        regex: r"\b(nobody|somebody|whoever|whatever it|whichever)\b",
        except: &["`nobody`"],
    },
    Pattern {
        name: "say what happens, not what is absent",
        regex: r"\b(nor|none)\b",
        except: &["None"],
    },
    Pattern {
        name: "say \"must\", \"should\" or \"will\"",
        regex: r"\b(is|are|was|were) to\b|\bshall\b",
        except: &[],
    },
    Pattern {
        name: "ask with \"does\" and one subject",
        regex: r"\b(which|what) \w+ has\b.*\?$",
        except: &[],
    },
    Pattern { name: "say \"is\"", regex: r"\bstands\b", except: &["stands for"] },
    Pattern {
        name: "say \"describe\" or \"say\"",
        regex: r"\btells? of\b|\b(is|are) told\b",
        except: &[],
    },
    Pattern {
        name: "say \"reach\" or \"happen to\"",
        regex: r"\bcomes? to\b|\bbecomes? of\b",
        except: &["comes to mind"],
    },
    Pattern {
        name: "say \"because\"",
        regex: r"[,;] for (it|its|he|they|there|nobody)\b|; for\b",
        except: &[],
    },
    Pattern {
        name: "say \"still\", \"exactly\", \"usually\", \"again\" or \"only\"",
        regex: r"\ball the same\b|\bto the letter\b|\bas a rule\b|\banew\b|\balone\b|\bone line more\b|\bthe end of all\b",
        except: &["stand-alone", "standalone"],
    },
];

/// At most one of these per sentence.
pub const NEGATIVES: &str = r"\b(no|not|never)\b";

/// Sentences that match and are right: the file, some words of the sentence, and the reason.
pub const ALLOWED: &[(&str, &str, &str)] = &[];
