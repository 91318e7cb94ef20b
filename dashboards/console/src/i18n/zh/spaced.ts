/** A space between Chinese and Latin words, where one of them is only known when it is said. */
export const spaced = (text: string): string => text.replace(/([\u4e00-\u9fff])([A-Za-z0-9])/g, "$1 $2").replace(/([A-Za-z0-9])([\u4e00-\u9fff])/g, "$1 $2");
