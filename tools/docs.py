"""refit-bench docs: rewrite the configuration summary and the generated tables of the other documents."""

from fixtures.documents.files import documents
from tools import command_parser


def main(argv: list[str]) -> int:
    """0: written, or nothing drifted (--check); 1: something drifted; 2: a document names no known table."""
    parser = command_parser("docs", __doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; say which documents drifted")
    options = parser.parse_args(argv)
    wanted = documents()
    drifted = [(path, text) for path, text in wanted if not path.is_file() or path.read_text("utf-8") != text]
    for path, text in drifted:
        print(f"{path.name} {'drifted: run refit-bench docs' if options.check else 'written'}")
        if not options.check:
            path.write_text(text, encoding="utf-8")
    return 1 if drifted and options.check else 0
