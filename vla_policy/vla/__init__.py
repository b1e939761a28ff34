"""The vision-language-action policy."""
